"""A replay buffer in cells: samples of any kind, kept lossily, read back noisily at any time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from memristore.compress.arrays import from_float32, to_float32
from memristore.errors import SpecError, TensorError
from memristore.rng import key as make_key
from memristore.spec import StorageSpec
from memristore.storage import store
from memristore.stored import StoredModel
from memristore.units import Time, parse_time

Array = npt.NDArray[np.generic]

_SAMPLES, _LABELS = "samples", "labels"


@dataclass(frozen=True, eq=False)
class _Batch:
    """Samples written at one time."""

    stored: StoredModel
    count: int
    written: float


class Replay:
    """Samples of the past in noisy cells, for learning that must not forget.

    Each :meth:`write` programs a new array of cells. Samples go through the recipe as one tensor: lossily where the
    recipe says so. Labels are integers or truth values and are kept exactly. What compressors promise of arrays of
    integers (the bound of ``ErrorBounded``) holds for images of bytes as well, as far as cells are without error.

    Parameters
    ----------
    spec : StorageSpec
        How samples are stored, for example with ``compress=(RateDistortion(sdr=15),)``.
    seed : int
        Names the cells.
    threads : int
        Threads for kernels; 0 means all. Results do not depend on it.

    Raises
    ------
    SpecError
        If `spec` is no recipe or the seed no non-negative integer.

    Notes
    -----
    After L. Wang et al., "Memory Replay with Data Compression for Continual Learning", ICLR 2022, arXiv:2202.06592:
    more samples of less quality fit into the same memory.

    Examples
    --------
    >>> import numpy as np
    >>> from memristore import RateDistortion, Replay, StorageSpec
    >>> buffer = Replay(StorageSpec(compress=(RateDistortion(sdr=15.0),), retention="1 year"), seed=0)
    >>> images = (np.add.outer(np.arange(20), np.arange(784)) % 256).astype(np.uint8).reshape(20, 28, 28)
    >>> buffer.write(images, labels=np.arange(20) % 10)
    >>> samples, labels = buffer.read(now="1 year")
    >>> samples.shape, samples.dtype.name, labels[:3].tolist(), buffer.cells_per_value < 3
    ((20, 28, 28), 'uint8', [0, 1, 2], True)
    """

    def __init__(self, spec: StorageSpec, *, seed: int, threads: int = 0) -> None:
        if not isinstance(spec, StorageSpec):
            raise SpecError(f"expected a StorageSpec, not {type(spec).__name__}")
        make_key(seed, "replay")
        self.spec = spec
        self.seed = seed
        self.threads = threads
        self._batches: list[_Batch] = []
        self._shape: tuple[int, ...] = ()
        self._dtype: np.dtype[Any] = np.dtype(np.float32)
        self._label_shape: tuple[int, ...] | None = None
        self._label_dtype: np.dtype[Any] = np.dtype(np.int64)

    def __len__(self) -> int:
        return sum(batch.count for batch in self._batches)

    def write(self, samples: npt.ArrayLike, labels: npt.ArrayLike | None = None, *, now: Time = 0.0) -> None:
        """Store samples in new cells.

        Parameters
        ----------
        samples : array_like, shape (n, ...)
            Finite numbers, of the same shape and type in every call; types as in `memristore.compress.arrays`.
        labels : array_like, shape (n, ...), optional
            Integers or truth values; in every call or in none.
        now : float or str
            Time on the buffer's clock, seconds or words; never before an earlier call's.

        Raises
        ------
        TensorError
            If arrays do not fit together or what is stored already, or hold what cannot be stored.
        SpecError
            If the time runs backwards.
        """
        written = parse_time(now)
        if self._batches and written < self._batches[-1].written:
            raise SpecError(f"the buffer was written at {self._batches[-1].written:g} s already; now={now!r} is before")
        source = np.asarray(samples)
        values = to_float32(source, _SAMPLES)
        if values.ndim == 0 or len(values) == 0:
            raise TensorError(f"samples need a first axis that counts them, at least one; found shape {values.shape}")
        if not np.isfinite(values).all():
            raise TensorError("samples hold NaN or infinity, which analog cells cannot keep; replace them first")
        # Integers become numbers that cells may keep lossily; as integers they would be kept exactly.
        state = {_SAMPLES: torch.from_numpy(values.copy())}
        marks = None if labels is None else self._labels(labels, len(values))
        self._agree(source, marks)
        if marks is not None:
            state[_LABELS] = torch.from_numpy(marks.copy())
        spec = dataclasses.replace(self.spec, compress=tuple(part.for_array(source) for part in self.spec.compress))
        seed = make_key(self.seed, "replay", len(self._batches))
        stored = store(state, spec, seed=seed, trace=False, threads=self.threads)
        self._batches.append(_Batch(stored, len(values), written))

    def read(
        self, *, now: Time = 0.0, event: int = 0, indices: Sequence[int] | npt.ArrayLike | None = None
    ) -> tuple[Array, Array | None]:
        """Read samples back.

        Parameters
        ----------
        now : float or str
            Time on the buffer's clock; every batch has aged since it was written.
        event : int
            Number of the read; another number draws fresh read noise.
        indices : sequence of int, optional
            Only these samples, in this order, counted from 0 as they were written. Arrays that hold none of them are
            not read.

        Returns
        -------
        samples : ndarray, shape (n, ...)
            Of the type that was written; integers rounded and clipped to it.
        labels : ndarray or None

        Raises
        ------
        TensorError
            If nothing was written, or an index is out of range.
        SpecError
            If the time is before a write, or the event is not valid.
        """
        if not self._batches:
            raise TensorError("the replay buffer is empty; write samples first")
        time = parse_time(now)
        if time < self._batches[-1].written:
            raise SpecError(f"now={now!r} is before the last write, at {self._batches[-1].written:g} s")
        wanted = self._wanted(indices)
        samples = np.zeros((wanted.size, *self._shape), self._dtype)
        labels = None if self._label_shape is None else np.zeros((wanted.size, *self._label_shape), self._label_dtype)
        first = 0
        for batch in self._batches:
            here = np.flatnonzero((wanted >= first) & (wanted < first + batch.count))
            if here.size:
                state = batch.stored.load(at=time - batch.written, event=event, threads=self.threads)
                rows = wanted[here] - first
                samples[here] = from_float32(state[_SAMPLES].numpy()[rows], self._dtype)
                if labels is not None:
                    labels[here] = state[_LABELS].numpy()[rows]
            first += batch.count
        return samples, labels

    @property
    def cells(self) -> int:
        """All cells, those of bits, labels and references included."""
        return sum(batch.stored.ledger().total for batch in self._batches)

    @property
    def cells_per_value(self) -> float:
        """All cells over the values of all samples."""
        return self.cells / max(1, len(self) * int(np.prod(self._shape, dtype=np.int64)))

    def _wanted(self, indices: Sequence[int] | npt.ArrayLike | None) -> npt.NDArray[np.int64]:
        if indices is None:
            return np.arange(len(self), dtype=np.int64)
        wanted = np.asarray(indices)
        if wanted.size == 0:
            return np.zeros(0, np.int64)
        if wanted.ndim != 1 or wanted.dtype.kind not in "iu" or wanted.min() < 0 or wanted.max() >= len(self):
            raise TensorError(f"indices must be integers from 0 to {len(self) - 1}, not {indices!r:.200}")
        return wanted.astype(np.int64)

    def _labels(self, labels: npt.ArrayLike, count: int) -> Array:
        marks = np.asarray(labels)
        if marks.dtype.kind not in "biu" or marks.ndim == 0 or len(marks) != count:
            raise TensorError(
                f"labels must be integers or truth values, one row for each of {count} samples; "
                f"found {marks.dtype} of shape {marks.shape}"
            )
        return marks

    def _agree(self, samples: Array, marks: Array | None) -> None:
        """Remember shapes and types of the first batch; raise `TensorError` where a later one differs."""
        label_shape = None if marks is None else marks.shape[1:]
        if not self._batches:
            self._shape, self._dtype = samples.shape[1:], samples.dtype.newbyteorder("=")
            self._label_shape = label_shape
            self._label_dtype = self._label_dtype if marks is None else marks.dtype
            return
        found = (samples.shape[1:], samples.dtype.newbyteorder("="), label_shape)
        if found != (self._shape, self._dtype, self._label_shape):
            raise TensorError(
                f"samples of shape {found[0]}, {found[1]}, labels {found[2]} do not fit the buffer's: "
                f"{self._shape}, {self._dtype}, labels {self._label_shape}"
            )
