"""One cell per symbol, value proportional to the mean state."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from memristore import _core
from memristore.config import check_number
from memristore.devices.device import Device
from memristore.devices.moments import Channel
from memristore.errors import SpecError
from memristore.mapping.mapper import F32, F64, Mapper, PlaneParams, inverse

_INVERSE_KNOTS: Final[int] = 4097


@dataclass(frozen=True, kw_only=True)
class Linear(Mapper):
    """Straight from the window to the device's mean state, by inverting its mean response.

    Parameters
    ----------
    clip : "auto", None or float
        ``"auto"``: window edges that minimise the predicted error; None: the extreme values; a number: that many
        standard deviations (root mean square for values of one sign).
    """

    name: ClassVar[str] = "linear"
    clip: float | str | None = "auto"

    def __post_init__(self) -> None:
        check_clip(self.name, self.clip)

    def targets(self, values: F32, params: PlaneParams, device: Device, threads: int = 0) -> list[F32]:
        return [place(values, params.lo, params.width, device, threads)]

    def soft(self, reads: Sequence[F32]) -> F32:
        return reads[0]

    def response(self, position: F64, params: PlaneParams, channel: Channel) -> tuple[F64, F64]:
        return channel.at_targets(positions_to_targets(position, channel.device))


def check_clip(owner: str, clip: float | str | None) -> None:
    """Raise `SpecError` unless `clip` is "auto", None or a positive number."""
    if isinstance(clip, str):
        if clip != "auto":
            raise SpecError(f"{owner}: clip is 'auto', None or a number, not {clip!r}")
    elif clip is not None:
        check_number(owner, "clip", clip, 0, 1e6, open_low=True)


@functools.lru_cache(maxsize=64)
def _inverse_response(device: Device) -> F32 | None:
    """Targets at equally spaced mean states along the device's branch; None where x itself is proportional."""
    if device.response.form == "poly" and len(device.response.values) == 2 and device.branch == (0.0, 1.0):
        return None
    x = np.linspace(*device.branch, _INVERSE_KNOTS)
    mean = device.response(x)
    rising = mean if mean[-1] >= mean[0] else -mean
    dip = np.maximum.accumulate(rising) - rising
    if np.any(dip > np.maximum(device.write(x), 1e-12)):
        raise SpecError(
            f"{device.name}: the mean response is not monotone, so a linear map cannot use it; choose another variant"
        )
    states = np.linspace(mean[0], mean[-1], _INVERSE_KNOTS)
    table: F32 = inverse(states, x, mean).astype(np.float32)
    return table


def positions_to_targets(position: F64, device: Device) -> F64:
    """Targets whose mean state lies at `position` of the way along the device's branch."""
    table = _inverse_response(device)
    if table is None:
        return position
    return np.interp(position, np.linspace(0.0, 1.0, table.size), table)


def place(values: F32, lo: float, width: float, device: Device, threads: int = 0) -> F32:
    """Map values, shape (n,), of the window from `lo` to `lo` + `width` to targets; values outside go to its edges."""
    # Subtracted first: in a narrow window far from zero the product would cancel.
    offset = values if lo == 0.0 else values - np.float32(lo)
    out = np.empty_like(values)
    table = _inverse_response(device)
    if table is None:
        _core.affine(offset, 1.0 / width, 0.0, 0.0, 1.0, out, threads)
    else:
        _core.lookup(offset, table, 0.0, (table.size - 1) / width, False, out, threads)
    return out
