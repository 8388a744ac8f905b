"""Codes: analog codes for values, bit codes for bits."""

from memristore.codes.code import AnalogCode, BitCode
from memristore.codes.repetition import Repetition
from memristore.codes.residual import Residual
from memristore.codes.secded import Secded
from memristore.codes.uncoded import Uncoded
from memristore.registry import Registry

codes = Registry("memristore.codes", AnalogCode)
bit_codes = Registry("memristore.codes", BitCode)

__all__ = ["AnalogCode", "BitCode", "Repetition", "Residual", "Secded", "Uncoded", "bit_codes", "codes"]
