"""The menu of an allocator: the error of a tensor with each number of planes, found by storing a sample of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np

from memristore.array import F32, READ
from memristore.array import channel as channel_at
from memristore.codes import AnalogCode, Residual
from memristore.planes import CellBlock, Reader, Writer
from memristore.rng import key as make_key
from memristore.spec import StorageSpec
from memristore.streams import AnalogStream, Payload, strided_sample
from memristore.torch_io import base_of, unescape

#: Values stored for a prediction, at most and at least; fewer are repeated. 2048 give the error to about 3 %.
_MOST: Final = 4096
_LEAST: Final = 2048
#: The same where codes are compared whose errors hang on a sample's few largest values.
_MORE: Final = 16384


def planes_alone(values: F32, planes: int, spec: StorageSpec, *, threads: int = 0) -> int:
    """Number of planes that :class:`~memristore.Residual` should not repeat, for values of shape (n,)."""
    if values.size == 0 or values.min() == values.max():
        return planes - 1
    # Of equal errors, as on ideal cells, the last is taken.
    tried = [Residual(planes=planes, alone=alone) for alone in reversed(range(planes))]
    best = min(tried, key=lambda code: predicted_error(values, spec, code, most=_MORE, threads=threads))
    return planes - 1 if best.alone is None else best.alone


def likely_error(values: F32, code: AnalogCode, *, spec: StorageSpec, threads: int = 0) -> float:
    """As :func:`predicted_error`, from more values: for the choice between codes."""
    return predicted_error(values, spec, code, most=_MORE, threads=threads)


def predicted_error(values: F32, spec: StorageSpec, code: AnalogCode, *, most: int = _MOST, threads: int = 0) -> float:
    """Mean squared error per value, values of shape (n,), stored with `code` and read at the end of the retention time.

    Found by storing a sample of at most `most` values in an array of its own, so it holds for every code, mapper,
    decoder and device alike. The same arguments give the same number.
    """
    if values.size == 0:
        return 0.0
    sample = strided_sample(values, most)
    sample = np.tile(sample, -(-_LEAST // sample.size)) if sample.size < _LEAST else np.ascontiguousarray(sample)
    key, block = make_key(0, "menu"), CellBlock(0, code.symbols(sample.size), [], values=sample.size)
    writer = Writer(
        spec, key, block, keep=False, alone=lambda v, p: planes_alone(v, p, spec, threads=threads),
        predict=partial(likely_error, spec=spec, threads=threads), threads=threads,
    )  # fmt: skip
    code.encode(sample, writer)
    at = spec.retention_seconds
    believed = channel_at(spec.cell, spec.write, at)
    reader = Reader(
        spec, key, block, writer.params, code, at=at, event=0, believed=believed, purpose=READ, threads=threads
    )
    return float(np.square(code.decode(reader) - sample, dtype=np.float64).mean())


def menu(payload: Payload, spec: StorageSpec, *, threads: int = 0) -> Callable[[str, int], float]:
    """Return the predicted mean squared error per value of a tensor, by name, with a number of planes."""
    parts: dict[str, list[AnalogStream]] = {}
    for stream in payload.analog_streams():
        parts.setdefault(unescape(base_of(stream.name)), []).append(stream)

    def predict(tensor: str, planes: int) -> float:
        code = spec.code.with_planes(planes)
        streams = [s for s in parts[tensor] if len(s)]
        errors = [len(s) * predicted_error(s.values, spec, code, threads=threads) for s in streams]
        return sum(errors) / max(1, sum(len(s) for s in streams))

    return predict
