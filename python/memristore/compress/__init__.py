"""Compressors: the source coding of a whole network, from weights to streams."""

from __future__ import annotations

from typing import Final

from memristore.compress.arrays import compress_array, decompress_array, shorten_array
from memristore.compress.bit_stack import BitStack
from memristore.compress.codebook import Codebook
from memristore.compress.constant import Constant
from memristore.compress.error_bounded import ErrorBounded
from memristore.compress.identity import Identity
from memristore.compress.low_rank import LowRank
from memristore.compress.prune import Prune, prune_and_finetune
from memristore.compress.quantize import Quantize
from memristore.compress.rate_distortion import RateDistortion
from memristore.compress.raw import Raw
from memristore.compress.surp import SuRP
from memristore.compress.tensor_ring import TensorRing
from memristore.compress.uniform import Uniform
from memristore.compress.unify import Unify
from memristore.compress.zero_space import ZeroSpace
from memristore.registry import Registry
from memristore.transform import Compressor

#: Every compressor by name.
compressors: Final[Registry[Compressor]] = Registry("memristore.compress", Compressor)

__all__ = [
    "BitStack",
    "Codebook",
    "Compressor",
    "Constant",
    "ErrorBounded",
    "Identity",
    "LowRank",
    "Prune",
    "Quantize",
    "RateDistortion",
    "Raw",
    "SuRP",
    "TensorRing",
    "Uniform",
    "Unify",
    "ZeroSpace",
    "compress_array",
    "compressors",
    "decompress_array",
    "prune_and_finetune",
    "shorten_array",
]
