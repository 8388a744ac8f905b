"""Compressors: the source coding of a whole network, from weights to streams."""

from __future__ import annotations

from typing import Final

from memristore.compress.codebook import Codebook
from memristore.compress.constant import Constant
from memristore.compress.identity import Identity
from memristore.compress.prune import Prune, prune_and_finetune
from memristore.compress.quantize import Quantize
from memristore.compress.rate_distortion import RateDistortion
from memristore.compress.raw import Raw
from memristore.compress.surp import SuRP
from memristore.compress.uniform import Uniform
from memristore.compress.zero_space import ZeroSpace
from memristore.registry import Registry
from memristore.transform import Compressor

#: Every compressor by name.
compressors: Final[Registry[Compressor]] = Registry("memristore.compress", Compressor)

__all__ = [
    "Codebook",
    "Compressor",
    "Constant",
    "Identity",
    "Prune",
    "Quantize",
    "RateDistortion",
    "Raw",
    "SuRP",
    "Uniform",
    "ZeroSpace",
    "compressors",
    "prune_and_finetune",
]
