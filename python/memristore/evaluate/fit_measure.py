"""What each tensor's errors cost, measured: one tensor at a time is quantised, and the answers are compared."""

from __future__ import annotations

import dataclasses
import glob
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from memristore.compress import RateDistortion
from memristore.evaluate.fit_families import SMALL_SDR, Tensor, large_tensors
from memristore.storage import prepare
from memristore.torch_io import base_of

if TYPE_CHECKING:
    import torch
    from torch import nn

    from memristore.spec import StorageSpec

F64 = npt.NDArray[np.float64]

#: Ratios at which tensors are measured, dB; a line through the logarithms of the losses says what lies between.
LEVELS: Final = (4.0, 8.0, 13.0, 19.0)
#: Grid of the ratios that are chosen from, dB.
_GRID: Final = np.arange(3.0, 40.0, 0.25)
#: A loss this small (nats) is noise of the measurement.
_LEAST_LOSS: Final = 1e-7


@dataclass(frozen=True, eq=False)
class Costs:
    """Loss and bits of each tensor at each of `LEVELS`.

    Parameters
    ----------
    streams : tuple of str
        Stream of each tensor.
    loss : ndarray, shape (tensors, levels)
        Divergence, nats, with this tensor alone quantised.
    bits : ndarray, shape (tensors, levels)
        What it takes then.
    """

    streams: tuple[str, ...]
    loss: F64
    bits: F64

    def rules(self, price: float) -> tuple[tuple[str, float], ...]:
        """Ratios with the least sum of losses plus price (nats per bit) times bits, as `RateDistortion` takes them."""
        out = []
        for stream, loss, bits in zip(self.streams, self.loss, self.bits, strict=True):
            # One measurement is one draw of errors: what all of them say together is nearer to the mean.
            slope, start = np.polyfit(LEVELS, np.log10(loss), 1)
            total = 10 ** (start + min(slope, 0.0) * _GRID) + price * np.maximum(_line(bits), 0.0)
            out.append((glob.escape(stream), float(_GRID[int(np.argmin(total))])))
        return (*out, ("*", SMALL_SDR))


def _line(values: F64) -> F64:
    """Straight lines between the levels, and on beyond them, at the points of the grid."""
    levels = np.array(LEVELS)
    place = np.clip(np.searchsorted(levels, _GRID) - 1, 0, levels.size - 2)
    share = (_GRID - levels[place]) / (levels[place + 1] - levels[place])
    line: F64 = values[place] + share * (values[place + 1] - values[place])
    return line


def costs_of(
    network: nn.Module | Mapping[str, torch.Tensor],
    base: StorageSpec,
    tensors: Sequence[Tensor],
    loss: Callable[[Mapping[str, torch.Tensor]], float],
    *,
    states: int,
    progress: bool,
    threads: int,
) -> Costs:
    """Measure what errors of each tensor cost, by themselves.

    Parameters
    ----------
    network : Module or state_dict
    base : StorageSpec
    tensors : sequence of Tensor
    loss : callable
        Weights to nats.
    states : int
        Of the trellis.
    progress : bool
        Show a bar on standard error if that is a terminal.
    threads : int
        For kernels.
    """
    state = network if isinstance(network, Mapping) else network.state_dict()
    large = large_tensors(tensors)
    names = {t.stream: t.name for t in large}
    losses, bits = np.zeros((len(large), len(LEVELS))), np.zeros((len(large), len(LEVELS)))
    with tqdm(
        total=losses.size, desc="loss by tensor", leave=False, disable=None if progress else True
    ) as bar:  # fmt: skip
        for k, level in enumerate(LEVELS):
            spec = dataclasses.replace(base, compress=(RateDistortion(sdr=level, states=states),))
            prepared = prepare(network, spec, threads=threads)
            quantised = prepared.decode_clean()
            taken: dict[str, int] = {}
            for stream in prepared.payload.bit_streams():
                taken[base_of(stream.name)] = taken.get(base_of(stream.name), 0) + stream.length
            for i, (stream_name, name) in enumerate(names.items()):
                bits[i, k] = taken.get(stream_name, 0)
                losses[i, k] = loss({**state, name: quantised[name]})
                bar.update()
    # More errors cannot do good, except by chance; and fewer bits are never dearer.
    falling = np.maximum.accumulate(np.maximum(losses, _LEAST_LOSS)[:, ::-1], axis=1)[:, ::-1]
    return Costs(tuple(names), falling, np.maximum.accumulate(bits, axis=1))
