"""Which analog value each weight of a network becomes: found by decoding position numbers in place of values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from memristore.spec import StorageSpec
from memristore.storage import PreparedModel
from memristore.streams import AnalogStream, BitStream, Payload, Stream
from memristore.torch_io import Entry
from memristore.transform import Context

I64 = npt.NDArray[np.int64]
#: Position numbers travel as float32 values in digits of this base, which float32 holds exactly.
_BASE: Final = 1 << 22


@dataclass(frozen=True, eq=False)
class Route:
    """Where the values of one tensor go.

    Parameters
    ----------
    entry : Entry
        The tensor.
    position : ndarray of int64, shape (n,)
        Analog value that each weight becomes, over all analog streams in order; -1 for weights that no cell keeps.
    signed : bool
        Whether cells keep magnitudes, and bits the signs.
    """

    entry: Entry
    position: I64
    signed: bool


def routes(prepared: PreparedModel, streams: Sequence[AnalogStream]) -> tuple[list[Route], list[Entry]]:
    """Trace every analog tensor through the recipe's protections.

    Parameters
    ----------
    prepared : PreparedModel
    streams : sequence of AnalogStream
        Its analog streams, in the order in which their values are numbered.

    Returns
    -------
    found : list of Route
        Tensors each value of which is one analog value, but for sign and mask.
    others : list of Entry
        Tensors that the recipe turns into something else: codes, factors.
    """
    spec, payload = prepared.spec, prepared.payload
    starts = np.cumsum([0, *(len(s) for s in streams)])
    first = {s.name: int(start) for s, start in zip(streams, starts[:-1], strict=True)}
    shapes = {e.base: e.shape for e in prepared.entries if e.kind != "alias"}
    low = _decoded(spec, payload, first, shapes, lambda p: p % _BASE + 1)
    high = _decoded(spec, payload, first, shapes, lambda p: p // _BASE) if starts[-1] > _BASE else {}
    found: list[Route] = []
    others: list[Entry] = []
    for entry in prepared.entries:
        if entry.kind != "analog" or entry.size == 0:
            continue
        digits = low.get(entry.base)
        if digits is None or digits.size != entry.size:
            others.append(entry)
            continue
        position = np.rint(np.abs(digits)).astype(np.int64) - 1
        kept = position >= 0
        if entry.base in high:
            position[kept] += _BASE * np.rint(np.abs(high[entry.base][kept])).astype(np.int64)
        found.append(Route(entry, position, bool((digits < 0).any())))
    return found, others


def _decoded(
    spec: StorageSpec, payload: Payload, first: dict[str, int], shapes: dict[str, tuple[int, ...]],
    digit: Callable[[I64], I64],
) -> dict[str, npt.NDArray[np.float32]]:  # fmt: skip
    """Undo the protections of a payload whose analog values are digits of their positions."""
    streams: list[Stream] = []
    for stream in payload:
        if isinstance(stream, BitStream):
            streams.append(stream)
            continue
        position = first.get(stream.name, 0) + np.arange(len(stream), dtype=np.int64)
        streams.append(AnalogStream(stream.name, digit(position).astype(np.float32)))
    numbered, context = Payload(streams), Context(shapes)
    for protection in reversed(spec.protect):
        numbered = protection.decode(numbered, context)
    return {s.name: s.values for s in numbered.analog_streams() if s.name in shapes}
