"""Two cells per symbol: one for the positive part, one for the negative."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memristore import _core
from memristore.devices.device import Device
from memristore.devices.moments import Channel
from memristore.mapping.linear import check_clip, place, positions_to_targets
from memristore.mapping.mapper import F32, F64, Mapper, PlaneParams


@dataclass(frozen=True, kw_only=True)
class Differential(Mapper):
    """Value proportional to the difference of two cells; the cell of the other sign rests at target 0.

    Parameters
    ----------
    clip : "auto", None or float
        As for ``linear``; the window is symmetric.

    Notes
    -----
    The usual pair of compute-in-memory arrays: small values rest on two cells near target 0, where conductance devices
    are least noisy. Costs two cells where a sign bit and one cell cost about two as well, but needs no bit stream.
    """

    name: ClassVar[str] = "differential"
    cells_per_symbol: ClassVar[int] = 2
    symmetric: ClassVar[bool] = True
    clip: float | str | None = "auto"

    def __post_init__(self) -> None:
        check_clip(self.name, self.clip)

    def frame(self, lo: float, hi: float) -> PlaneParams:
        rounded = super().frame(lo, hi)
        # Symmetric, so that the middle of the window is the value zero.
        return rounded if rounded.constant else PlaneParams(-0.5 * rounded.width, rounded.width, rounded.density)

    def targets(self, values: F32, params: PlaneParams, device: Device, threads: int = 0) -> list[F32]:
        positive, negative = np.empty_like(values), np.empty_like(values)
        _core.differential(values, positive, negative, threads)
        return [place(part, 0.0, 0.5 * params.width, device, threads) for part in (positive, negative)]

    def soft(self, reads: Sequence[F32]) -> F32:
        return reads[0] - reads[1]

    def response(self, position: F64, params: PlaneParams, channel: Channel) -> tuple[F64, F64]:
        value = 2.0 * position - 1.0
        mean, std = channel.at_targets(positions_to_targets(np.abs(value), channel.device))
        rest_mean, rest_std = channel.at_targets(np.zeros(1))
        return np.sign(value) * (mean - rest_mean[0]), np.sqrt(np.square(std) + np.square(rest_std[0]))
