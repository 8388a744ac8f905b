"""The menu of an allocator: the error of a tensor with each number of planes, found by storing a sample of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np

from memristore.array import F32, READ
from memristore.array import channel as channel_at
from memristore.codes import AnalogCode, Residual
from memristore.mapping import PlaneParams
from memristore.planes import CellBlock, Fitted, Reader, Writer
from memristore.rng import key as make_key
from memristore.spec import StorageSpec
from memristore.streams import AnalogStream, Payload, strided_sample
from memristore.torch_io import base_of, unescape

#: Values stored for a prediction, at most and at least; fewer are repeated. 2048 give the error to about 3 %.
_MOST: Final = 4096
_LEAST: Final = 2048
#: The same where codes are compared whose errors hang on a sample's few largest values.
_MORE: Final = 16384
#: Most that reading planes together is taken to gain, as a factor of the error (1.6 dB).
_GAIN: Final = 1.45
#: Arrays that a sample is stored in where rare noise matters.
_ARRAYS: Final = 6
_BLOCK: Final = 1 << 18


def planes_alone(values: F32, planes: int, spec: StorageSpec, *, threads: int = 0) -> int:
    """Number of planes that :class:`~memristore.Residual` should not repeat, for values of shape (n,)."""
    if values.size == 0 or values.min() == values.max():
        return planes - 1

    def error(alone: int, together: bool) -> float:
        code = Residual(planes=planes, alone=alone)
        return predicted_error(values, spec, code, most=_MORE, together=together, threads=threads)

    # Of equal errors, as on ideal cells, the last is taken.
    rough = {alone: error(alone, False) for alone in reversed(range(planes))}
    likely = [alone for alone, found in rough.items() if found <= _GAIN * min(rough.values())]
    # Planes are read together in the end, which takes long to predict: only where it may decide.
    return likely[0] if len(likely) == 1 else min(likely, key=lambda alone: error(alone, True))


def likely_error(values: F32, code: AnalogCode, *, spec: StorageSpec, threads: int = 0) -> float:
    """As :func:`predicted_error`, from more values: for the choice between codes."""
    return predicted_error(values, spec, code, most=_MORE, threads=threads)


def predicted_error(
    values: F32,
    spec: StorageSpec,
    code: AnalogCode,
    *,
    at: float | None = None,
    most: int = _MOST,
    whole: bool = False,
    together: bool = True,
    threads: int = 0,
) -> float:
    """Mean squared error per value, values of shape (n,), stored with `code` and read at an age.

    Found by storing a sample of at most `most` values in an array of its own, so it holds for every code, mapper,
    decoder and device alike. The same arguments give the same number.

    Parameters
    ----------
    values : ndarray, shape (n,), float32
    spec : StorageSpec
    code : AnalogCode
    at : float, optional
        Seconds since programming; by default the ages that the recipe is judged at.
    most : int
        Values stored, at most.
    whole : bool
        Fit the first window to all values, not to the sample: slower, right for values with rare large ones.
    together : bool
        Decode planes that hold what others left over together, as decoders do; else one by one, faster and worse.
    threads : int
    """
    ages = spec.judged_at if at is None else (at,)
    return mean_error(
        [
            stored_sample(values, spec, code, t, most=most, whole=whole, together=together, threads=threads)[0]
            for t in ages
        ]
    )


def mean_error(errors: Sequence[float]) -> float:
    """Mean of errors at several ages, on a logarithmic scale, so that early reads count as much as late ones."""
    if len(errors) == 1:
        return errors[0]
    return math.exp(sum(math.log(max(error, 1e-300)) for error in errors) / len(errors))


def stored_sample(
    values: F32,
    spec: StorageSpec,
    code: AnalogCode,
    at: float,
    *,
    most: int = _MOST,
    whole: bool = False,
    together: bool = True,
    threads: int = 0,
) -> tuple[float, list[PlaneParams], int]:
    """Return :func:`predicted_error` at an age, parameters of the writes, and cells for each symbol of the code."""
    if values.size == 0:
        return 0.0, [], 0
    sample = strided_sample(values, most)
    sample = np.tile(sample, -(-_LEAST // sample.size)) if sample.size < _LEAST else np.ascontiguousarray(sample)
    fitted, arrays, parts = None, 1, code.parts()
    # A window that reaches to the extremes is as wide as the rarest values make it, whatever the sample holds.
    if not code.joint and (whole or spec.mapper.clip is None):
        fitted = replace(Fitted.to(spec, values, parts[0], len(parts) > 1, threads), values=sample)
        # And later planes' windows as wide as the rarest noise, which is another in each array.
        arrays = _ARRAYS if whole and spec.mapper.clip is None and len(parts) > 1 else 1
    # Without reference cells the decoder takes the cells for fresh ones.
    believed = channel_at(spec.cell, spec.write, 0.0 if spec.references is None else at)
    total, params, planes = 0.0, [], 0
    for array in range(arrays):
        key, block = make_key(array, "menu"), CellBlock(0, code.symbols(sample.size), [], values=sample.size)
        writer = Writer(
            spec, key, block, keep=False, fitted=fitted, threads=threads,
            alone=lambda v, p: planes_alone(values if whole else v, p, spec, threads=threads),
            predict=partial(likely_error, spec=spec, threads=threads),
        )  # fmt: skip
        code.encode(sample, writer)
        params, planes = writer.params, len(block.states)
        reader = Reader(
            spec, key, block, params, code, at=at, event=0, believed=believed, purpose=READ, threads=threads
        )
        reader.together = together
        total += float(np.square(code.decode(reader) - sample, dtype=np.float64).mean())
    error = total / arrays
    if whole and sample.size < values.size:
        # Rare values beyond all windows may make most of the error, and a sample holds few of them.
        # The second parameters of a joint code hold its curve.
        windows = params[:1] if code.joint else params
        reach = sum(p.lo for p in windows), sum(p.hi for p in windows)
        error = max(error + _clipped(values, *reach) - _clipped(sample, *reach), 0.0)
    return error, params, planes


def _clipped(values: F32, low: float, high: float) -> float:
    """Mean squared distance of values from an interval; summed block by block, in a fixed order."""
    total = 0.0
    for start in range(0, values.size, _BLOCK):
        part = values[start : start + _BLOCK]
        total += float(np.square(part[part < low] - low, dtype=np.float64).sum())
        total += float(np.square(part[part > high] - high, dtype=np.float64).sum())
    return total / values.size


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
