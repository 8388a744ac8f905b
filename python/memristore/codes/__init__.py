"""Codes: analog codes for values, bit codes for bits."""

from memristore.codes.bch import Bch
from memristore.codes.code import AnalogCode, BitCode
from memristore.codes.densest import Densest
from memristore.codes.in_place import InPlace
from memristore.codes.ldpc import Ldpc
from memristore.codes.repetition import Repetition
from memristore.codes.residual import Residual
from memristore.codes.secded import Secded
from memristore.codes.shannon_kotelnikov import ShannonKotelnikov
from memristore.codes.uncoded import Uncoded
from memristore.registry import Registry

codes = Registry("memristore.codes", AnalogCode)
bit_codes = Registry("memristore.codes", BitCode)

__all__ = [
    "AnalogCode",
    "Bch",
    "BitCode",
    "Densest",
    "InPlace",
    "Ldpc",
    "Repetition",
    "Residual",
    "Secded",
    "ShannonKotelnikov",
    "Uncoded",
    "bit_codes",
    "codes",
]
