"""What a bit code sees of the cells below it: two numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BitChannel:
    """What a bit code sees of the cells that hold its bits.

    Parameters
    ----------
    raw_error : float
        Mean probability that the hard decision on a coded bit is wrong.
    information : float
        Mean mutual information, in bits, between a coded bit and its log-likelihood ratio: what bit-interleaved coded
        modulation gives.
    """

    raw_error: float
    information: float
