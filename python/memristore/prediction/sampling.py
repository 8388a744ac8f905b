"""Predicts by doing: a sample of a network's values goes through the whole recipe."""

from __future__ import annotations

import dataclasses
import glob
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from memristore.array import F32
from memristore.codes import InPlace
from memristore.errors import SpecError, TensorError
from memristore.mapping import PlaneParams
from memristore.menu import stored_sample
from memristore.planes import each_stream
from memristore.prediction.result import Part, Prediction
from memristore.protect import Entropy
from memristore.sizing import BitFormat
from memristore.spec import StorageSpec
from memristore.storage import PreparedModel, prepare
from memristore.stored import decode_tensor
from memristore.streams import AnalogStream, Payload, Stream, strided_sample
from memristore.torch_io import Entry, StateDict, base_of, identity_of, tensors_of, to_values
from memristore.transform import SEPARATOR
from memristore.units import Time, parse_time

#: Values stored for a prediction, in all; of one stream at most and at least.
SAMPLE: Final = 1 << 20
_MOST: Final = 1 << 18
_LEAST: Final = 1 << 12
#: Tensors of more values are compressed in part where compression is slow.
EXCERPT: Final = 1 << 17
#: A stream, its bits, and whether the recipe's code protects them.
_Row = tuple[Part, float, bool]
_NO_SDR: Final = (math.nan, math.nan)
#: Probability of a wrong block from which on bits are read as well.
_DAMAGE: Final = 1e-3
#: Values summed at a time.
_CHUNK: Final = 1 << 18


@np.errstate(all="ignore")
def predict(
    source: torch.nn.Module | StateDict | npt.ArrayLike, spec: StorageSpec, at: Time | None = None, *, threads: int = 0
) -> Prediction:
    """Predict what storing a network with a recipe, and reading it back, would give.

    Parameters
    ----------
    source : Module, state_dict or array_like
        A network, or the values of one tensor, any shape and real dtype; left untouched.
    spec : StorageSpec
        Compression, protection, codes, mapper and decoder alike.
    at : float or str, optional
        Time of the read; by default the end of the recipe's retention time.
    threads : int
        Threads for kernels; 0 means all. Results do not depend on it.

    Returns
    -------
    Prediction
        The same arguments give the same numbers. An SDR is good to about 0.1 dB (one sigma) for a tensor of some
        thousand values or more; for a few values it is the mean over many arrays.

    Raises
    ------
    TensorError
        If there are no values, or some are not finite or not real numbers.
    SpecError
        If the recipe or the time is not valid.

    Notes
    -----
    The network is compressed and protected as :func:`memristore.store` would do, and windows are fitted to all values;
    at most 262144 values of a stream, a million in all, are then written, aged and read in an array of their own. Where
    bits are to be compressed, large tensors are represented by some of their rows. Squared errors of compression and
    of cells are added, and the age is taken to be what reference cells tell on average. Bits are taken to come back
    right unless a block is wrong with a probability above 1e-3 then (long after the retention time, or for want of
    reference cells): tensors, or some of their rows, are then stored and read with their bits. What a window costs in
    cells (72 bits), the directory and the reference cells are counted.

    Examples
    --------
    >>> import numpy as np, memristore as ms
    >>> found = ms.predict(np.linspace(-1, 1, 5000), ms.StorageSpec(device="awgn/20"))
    >>> 15 < found.sdr_db < 25 and 1.0 < found.cells_per_value < 1.5
    True
    """
    if not isinstance(spec, StorageSpec):
        raise SpecError(f"expected a StorageSpec, not {type(spec).__name__}; a dict goes through StorageSpec.from_dict")
    seconds = spec.retention_seconds if at is None else parse_time(at)
    state = source if isinstance(source, (torch.nn.Module, Mapping)) else {"values": _as_tensor(source)}
    tensors, buffers = tensors_of(state)
    if not any(t.numel() for t in tensors.values()):
        raise TensorError("predict: the source holds no values")
    # An allocator may know tensors by their sizes.
    slow = spec.allocation is None and (bool(spec.compress) or any(isinstance(p, Entropy) for p in spec.protect))
    # Out of their module, buffers are no longer known as such.
    kept = tuple(glob.escape(n) for n in buffers or () if n in tensors)
    alone = dataclasses.replace(spec, exact=spec.exact + kept)
    if slow and any(t.numel() > EXCERPT for t in tensors.values()):
        looked = _excerpt(tensors)
        prepared = prepare(looked, alone, threads=threads)
    else:
        looked = tensors
        prepared = prepare(state, spec, threads=threads)
    judge = _Judge(prepared, spec, seconds, tensors, looked, threads)

    def damaged(shares: Sequence[tuple[BitFormat, float]]) -> dict[str, float]:
        looked = _excerpt(tensors)
        out: dict[str, float] = {}
        # In the formats of the whole network, which fewer bits might not be given.
        recipes = [(dataclasses.replace(alone, bits=part.code, levels=part.levels), share) for part, share in shares]
        for fixed, share in recipes or [(alone, 1.0)]:
            made = prepare(looked, fixed, threads=threads).program(seed=0, trace=False, threads=threads)
            for name, error in errors_of(made.load(at=seconds, threads=threads), looked).items():
                out[name] = out.get(name, 0.0) + share * error
        return out

    return judge.prediction(damaged)


def _as_tensor(values: npt.ArrayLike) -> torch.Tensor:
    if isinstance(values, torch.Tensor):
        return values if values.dtype.is_floating_point else values.to(torch.float32)
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise TensorError(f"values must be real numbers, not {array.dtype}")
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def as_values(values: npt.ArrayLike) -> F32:
    """Return real numbers of any shape as float32, shape (n,)."""
    found: F32 = _as_tensor(values).detach().to("cpu", torch.float32).contiguous().reshape(-1).numpy()
    return found


def errors_of(read: Mapping[str, torch.Tensor], original: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Mean squared error of each floating tensor that holds values."""
    real = {name: t for name, t in original.items() if t.dtype.is_floating_point and t.numel()}
    return {name: _squared(_finite(read[name]), _finite(tensor)) / tensor.numel() for name, tensor in real.items()}


def _excerpt(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Large tensors cut down to evenly spaced rows, and those with the extreme values; shared ones stay shared."""
    out: dict[str, torch.Tensor] = {}
    cut: dict[tuple[Any, ...], torch.Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.numel() <= EXCERPT or not tensor.is_floating_point():
            out[name] = tensor
            continue
        identity = identity_of(tensor)
        if identity not in cut:
            plain = tensor.detach()
            rows = plain.float().reshape(plain.shape[0], -1)
            each = rows.shape[1]
            wanted = np.linspace(0, rows.shape[0] - 1, max(1, min(rows.shape[0], EXCERPT // each)))
            ends = [int(torch.argmax(rows)) // each, int(torch.argmin(rows)) // each]
            chosen = np.union1d(np.rint(wanted).astype(np.int64), np.array(ends))
            cut[identity] = plain[torch.from_numpy(chosen).to(plain.device)]
        out[name] = cut[identity]
    return out


def _power(values: F32) -> float:
    """Sum of squared differences from the mean, in a fixed order."""
    # About a value near the mean first, so that little cancels.
    centre = float(values[:_CHUNK].mean(dtype=np.float64)) if values.size else 0.0
    first = second = 0.0
    for start in range(0, values.size, _CHUNK):
        away = values[start : start + _CHUNK].astype(np.float64) - centre
        first += float(away.sum())
        second += float(np.square(away, out=away).sum())
    return max(second - first * first / max(values.size, 1), 0.0)


def _squared(a: F32, b: F32) -> float:
    """Sum of squared differences, in a fixed order."""
    chunks = range(0, a.size, _CHUNK)
    return sum(float(np.square(a[i : i + _CHUNK] - b[i : i + _CHUNK], dtype=np.float64).sum()) for i in chunks)


class _Judge:
    """A prepared network, or excerpts of one, and what becomes of it."""

    def __init__(
        self, prepared: PreparedModel, spec: StorageSpec, at: float, tensors: Mapping[str, torch.Tensor],
        looked: Mapping[str, torch.Tensor], threads: int,
    ) -> None:  # fmt: skip
        self.prepared = prepared
        self.spec = spec
        self.at = at
        self.tensors = tensors
        self.looked = looked
        self.threads = threads
        self.entries = [e for e in prepared.entries if e.kind != "alias"]
        self.parts: dict[str, list[Stream]] = {}
        for stream in prepared.payload:
            self.parts.setdefault(base_of(stream.name), []).append(stream)
        analog = len(prepared.payload.analog_streams())
        self.most = min(max(SAMPLE // max(analog, 1), _LEAST), _MOST)
        self.sources: dict[str, F32] = {}

    def scale(self, entry: Entry) -> float:
        """Values of a tensor for each one that was looked at."""
        return self.tensors[entry.name].numel() / max(entry.size, 1)

    def prediction(self, damaged: Callable[[Sequence[tuple[BitFormat, float]]], dict[str, float]]) -> Prediction:
        """Judge all tensors, then count the cells of their bits together.

        Where many bits are expected to come back wrong, errors are those that `damaged` finds, by storing tensors in
        each part of the format, with its share of the bits.
        """
        found = each_stream(self._tensor, self.entries, self.threads, lambda entry: entry.size)
        spec, references = self.spec, self.spec.references
        bits = self.prepared.payload.bit_streams()
        # The directory, and the reference cells' start value.
        shared = 8.0 * len({base_of(s.name) for s in self.prepared.payload.analog_streams()})
        if any(s.name.endswith(f"{SEPARATOR}coded") for s in bits):
            shared += len(bits)
        shared += 0 if references is None else 32
        each, error, shares = self._cells_per_bit([row for _, rows in found for row in rows], shared)
        streams: list[Part] = []
        totals: list[Part] = []
        # Without reference cells, bits of cells that drift are read with the thresholds of fresh ones.
        lost = error > _DAMAGE or (self.spec.cell.drifts and references is None and self.at > 0 and bool(bits))
        errors = damaged(shares) if lost else {}
        for whole, rows in found:
            error_sum = errors[whole.tensor] * whole.items if whole.tensor in errors else whole.error
            mine = [dataclasses.replace(part, cells=part.cells + each[outer] * n) for part, n, outer in rows]
            streams += mine
            totals.append(dataclasses.replace(whole, error=error_sum, cells=sum(part.cells for part in mine)))
        cells = shared * each[True] + (0 if references is None else references.count)
        weights = sum(self.tensors[e.name].numel() for e in self.entries if e.parameter)
        return Prediction(spec, self.at, totals, streams, cells, weights, error, self.sources, self._note(error, lost))

    def _cells_per_bit(
        self, rows: list[_Row], shared: float
    ) -> tuple[dict[bool, float], float, list[tuple[BitFormat, float]]]:
        """Cells for a bit, by whether the recipe's code protects it; largest probability of a wrong block; formats."""
        each, error = {True: 0.0, False: 0.0}, 0.0
        shares: list[tuple[BitFormat, float]] = []
        for outer, code in ((True, self.spec.bits), (False, InPlace())):
            total = math.ceil(sum(n for _, n, mine in rows if mine == outer) + (shared if outer else 0.0))
            if total:
                found = self.spec.bit_format(total, code)
                each[outer] = found.cells(total) / total
                held = found.shares(total)
                shares = held if outer else shares
                for part, _ in held:
                    channel = self.spec.level_design(part).channel(self.at)
                    error = max(error, part.code.block_error(channel))
        return each, error, shares

    def _tensor(self, entry: Entry, threads: int) -> tuple[Part, list[_Row]]:
        """Power and error of a tensor; its streams, with the cells of values and the number of bits."""
        tensor = self.looked[entry.name]
        items, scale = self.tensors[entry.name].numel(), self.scale(entry)
        parts = self.parts.get(entry.base, [])
        rows: list[_Row] = []
        power = error = math.nan
        if tensor.dtype.is_floating_point:
            values = to_values(entry.name, tensor, threads) if entry.kind == "analog" else _finite(tensor)
            self.sources[entry.name] = values
            power = _power(values) * scale
            error = 0.0
            # Protections lose nothing by themselves.
            if self.spec.compress and entry.kind == "analog":
                clean = decode_tensor([entry], Payload(parts), self.spec, threads)[entry.name]
                error = _squared(_finite(clean), values) * scale
        for stream in parts:
            name = stream.name.removeprefix(entry.base).lstrip(SEPARATOR) or "values"
            if isinstance(stream, AnalogStream):
                row, side = self._analog(entry.name, name, stream, scale, threads)
                rows += [row, side]
                error += row[0].error
            else:
                n = 8.0 * stream.data.size * scale
                rows.append((Part(entry.name, name, round(stream.length * scale), 0.0, *_NO_SDR), n, stream.outer_code))
        exact = items * tensor.element_size() * 8 if entry.kind == "exact" else 0
        return Part(entry.name, "", items, 0.0, power, error, exact), rows

    def _analog(self, tensor: str, name: str, stream: AnalogStream, scale: float, threads: int) -> tuple[_Row, _Row]:
        """Store a sample of a stream; returns what its values and its side information take."""
        spec, code = self.spec, self.prepared.codes[stream.name]
        found, params, each = stored_sample(
            stream.values, spec, code, self.at, most=self.most, whole=True, threads=threads
        )
        n = round(len(stream) * scale)
        cells = float(code.symbols(n) * each)
        side = 8 * PlaneParams.BYTES * len(params)
        looked = strided_sample(stream.values, self.most)
        power = _power(looked) * n / max(looked.size, 1)
        values = Part(tensor, name, n, cells, power, found * len(stream) * scale)
        return (values, 0.0, True), (Part(tensor, f"{name} planes", side, 0.0, *_NO_SDR), float(side), True)

    def _note(self, error: float, lost: bool) -> str:
        """Say how the numbers were found."""
        words = [f"by storing at most {self.most:,} values of each stream"]
        if self.looked is not self.tensors:
            words.append("large tensors compressed in part")
        if lost:
            words.append("with the bits of one array that come back wrong")
        elif error > self.spec.block_error:
            words.append(f"bits taken as right, though blocks are wrong with probability {error:.1e}")
        return "; ".join(words)


def _finite(tensor: torch.Tensor) -> F32:
    """Values of a tensor kept exactly, shape (n,); those that are not finite count as zeros, for they come back."""
    values: F32 = np.nan_to_num(tensor.detach().to("cpu", torch.float32).contiguous().reshape(-1).numpy())
    return values
