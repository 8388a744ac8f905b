"""Truncated singular value decomposition: matrices of low rank instead of weights, ranks where they count most."""

from __future__ import annotations

import fnmatch
import heapq
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from memristore.compress.factors import (
    ROWS,
    SEPARABLE,
    components,
    energies,
    from_halves,
    from_matrix,
    matrix_shape,
    named_numbers,
    product,
    to_halves,
    to_matrix,
    whole_words,
)
from memristore.config import check_number
from memristore.errors import SpecError, TensorError
from memristore.masks import fit, merge_parts
from memristore.streams import AnalogStream, BitStream, Payload, Stream
from memristore.transform import SEPARATOR, Compressor, Context

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

#: Groups of components double in size from one to the next, so that 17 hold every rank.
_GROUPS: Final = 17
_MOST: Final = 65535
#: Share of the energy that counts as nothing: what rounding to float32 leaves of a matrix of low rank, and more.
_NOTHING: Final = 1e-13
_HEAD, _EXACT, _GROUP = "rank", "leading", "factors"


@dataclass(frozen=True, order=True)
class _Option:
    """A way to keep a tensor: values it takes, squared error it leaves, how it is made a matrix, and its rank."""

    values: int
    error: float
    way: int = ROWS
    rank: int = -1  # as it is


@dataclass(frozen=True, kw_only=True)
class LowRank(Compressor):
    """Replace matrices by the product of two thin ones, where that takes fewer values.

    ``w`` becomes ``w/rank`` (rank and layout, 3 bytes) and ``w/factors0``, ``w/factors1``, ...: components with
    singular values in order, one in the first group, two in the next, then 4, 8, ... Each singular value is shared
    evenly between its two vectors, so that all values of a component have the same scale and the same effect: an error
    e in one adds e**2 times the singular value to the squared error of the tensor. That is the `sensitivity` of the
    streams (times the mean sensitivity of the tensor, where it has one). Groups may be left out from the end: what is
    left is the best approximation of its rank.

    Convolutions are matrices of output channels by the rest, or (output channels, rows) by (input channels, columns),
    whichever leaves less error for its size. Give one of `energy`, `ratio` and `rank`; tensors of fewer than two
    dimensions, and those that would not get smaller, pass unchanged.

    Parameters
    ----------
    energy : float, optional
        Share of each tensor's sum of squares to keep, in (0, 1]; 0.95 if nothing is given. 1 is exact to float32.
    ratio : float, optional
        Values to store for all tensors that can get smaller over the number of weights in them, in (0, 1]; every tensor
        has rank 1 at least. They go where they take off most error; see `sensitivity`.
    rank : int, optional
        The same rank for all tensors.
    sensitivity : tuple of (str, float)
        For `ratio`: pattern (``fnmatch``) of tensor names and loss per squared error, the first that fits counts. For
        tensors that none fits, the error counts as a share of the tensor's own energy.
    exact : int
        So many leading components of each tensor are kept as bits (float16 with a common exponent): protection where
        the singular value is largest.

    Raises
    ------
    SpecError
        If a field is out of range, or more than one of `energy`, `ratio` and `rank` is given.

    Notes
    -----
    Truncation is optimal in squared error (C. Eckart and G. Young, Psychometrika 1 (1936), doi:10.1007/BF02288367).
    The separable layout of convolutions: M. Jaderberg et al., BMVC 2014, arXiv:1405.3866. A budget is spent
    step by step, the step to a higher rank of some tensor with the most loss taken off per value first.
    Singular vectors come from LAPACK in float64 and are rounded to 20 bits, so that their last bits, which depend on
    the machine, do not show; reconstruction sums in a fixed order.
    """

    name: ClassVar[str] = "low-rank"
    source: ClassVar[str] = "truncated SVD (C. Eckart and G. Young 1936); M. Jaderberg et al. 2014, arXiv:1405.3866"
    keeps_zeros: ClassVar[bool] = False
    #: Settings that the contract tests try.
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"rank": 3, "exact": 1},
        {"ratio": 0.4, "sensitivity": (("w", 2.0),)},
    )
    energy: float | None = None
    ratio: float | None = None
    rank: int | None = None
    sensitivity: tuple[tuple[str, float], ...] = field(default=(), repr=False)
    exact: int = 0

    def __post_init__(self) -> None:
        given = [name for name in ("energy", "ratio", "rank") if getattr(self, name) is not None]
        if len(given) > 1:
            raise SpecError(f"{self.name}: give one of energy, ratio and rank, not {' and '.join(given)}")
        if not given:
            object.__setattr__(self, "energy", 0.95)
        if self.energy is not None:
            check_number(self.name, "energy", self.energy, 0, 1, open_low=True)
        if self.ratio is not None:
            check_number(self.name, "ratio", self.ratio, 0, 1, open_low=True)
        if self.rank is not None:
            check_number(self.name, "rank", self.rank, 1, _MOST, integer=True)
        check_number(self.name, "exact", self.exact, 0, _MOST, integer=True)
        object.__setattr__(self, "sensitivity", named_numbers(self.name, "sensitivity", self.sensitivity))

    def encode(self, payload: Payload, context: Context) -> Payload:
        """Replace what gets smaller; other streams pass.

        Raises
        ------
        TensorError
            If a decomposition does not converge.
        """
        options = {s.name: o for s in payload.analog_streams() if len(o := _options(s, context)) > 1}
        chosen = (
            self._budget(options, payload) if self.ratio is not None else {n: self._pick(options[n]) for n in options}
        )
        out: list[Stream] = []
        for stream in payload:
            option = chosen.get(stream.name)
            if isinstance(stream, AnalogStream) and option is not None and option.rank >= 0:
                out.extend(self._encode(stream, option, context))
            else:
                out.append(stream)
        return Payload(out)

    def decode(self, payload: Payload, context: Context) -> Payload:
        """Multiply the factors; missing groups count as zero, damaged bits give wrong values."""

        def join(base: str, parts: dict[str, Any]) -> Stream:
            shape = context.shapes[base]
            head = fit(parts[_HEAD].data, 3)
            way = SEPARABLE if head[2] & 1 and matrix_shape(shape, SEPARABLE) else ROWS
            matrix = matrix_shape(shape, way) or (0, 0)
            rank = min(int(head[0]) | int(head[1]) << 8, *matrix)
            total = np.zeros(matrix)
            for name, start, stop in self._groups(rank):
                stream = parts.get(name)
                if stream is not None:
                    size = (stop - start) * sum(matrix)
                    exact = isinstance(stream, BitStream)
                    values = from_halves(whole_words(stream), size) if exact else fit(stream.values, size)
                    split = (stop - start) * matrix[0]
                    total += product(
                        values[:split].reshape(-1, matrix[0]), values[split:].reshape(-1, matrix[1]), matrix
                    )
            return AnalogStream(base, from_matrix(total, shape, way))

        return merge_parts(payload, (_HEAD,), join, [_EXACT, *(f"{_GROUP}{g}" for g in range(_GROUPS))])

    def _groups(self, rank: int) -> list[tuple[str, int, int]]:
        """Name, first and end of each group of components."""
        start = min(self.exact, rank)
        groups = [(_EXACT, 0, start)] if start else []
        for g in range(_GROUPS):
            if start < rank:
                groups.append((f"{_GROUP}{g}", start, min(start + (1 << g), rank)))
                start += 1 << g
        return groups

    def _pick(self, options: list[_Option]) -> _Option:
        """Choose for one tensor by `energy` or `rank`; the first option is the tensor as it is."""
        if self.rank is not None:
            wanted = [o for o in options if o.rank == self.rank]
            return min(wanted, key=lambda o: (o.values, o.error), default=options[0])
        whole = max(o.error for o in options)
        allowed = max(1 - (self.energy or 0), _NOTHING) * whole
        return min((o for o in options if o.error <= allowed), key=lambda o: (o.values, o.error))

    def _budget(self, options: dict[str, list[_Option]], payload: Payload) -> dict[str, _Option]:
        """Spend the values of `ratio` where they take off most loss."""
        chosen = {name: min(mine, key=lambda o: (o.values, o.error)) for name, mine in options.items()}
        weight = {}
        for name in options:
            own = float(np.square(payload.analog(name).values, dtype=np.float64).sum())
            default = 1 / own if own else 0.0
            weight[name] = next((w for p, w in self.sensitivity if fnmatch.fnmatchcase(name, p)), default)
        weights = sum(len(payload.analog(name)) for name in options)
        left = int((self.ratio or 0) * weights + 1e-9) - sum(o.values for o in chosen.values())
        tables = {n: (np.array([o.values for o in m]), np.array([o.error for o in m])) for n, m in options.items()}

        def step(name: str) -> list[tuple[float, str, _Option]]:
            found = _steepest(chosen[name], *tables[name], left)
            return [] if found is None else [(-weight[name] * found[0], name, options[name][found[1]])]

        heap = [entry for name in options for entry in step(name)]
        heapq.heapify(heap)
        while heap:
            _, name, option = heapq.heappop(heap)
            more = option.values - chosen[name].values
            if more <= left:
                chosen[name] = option
                left -= more
            for entry in step(name):
                heapq.heappush(heap, entry)
        return chosen

    def _encode(self, stream: AnalogStream, option: _Option, context: Context) -> list[Stream]:
        shape = context.shapes[stream.name]
        left, right = _decomposed(stream, shape, option)
        scale = 1.0 if stream.sensitivity is None else float(stream.sensitivity.mean(dtype=np.float64))
        # Both vectors of a component have the norm of the root of its singular value.
        slope = scale * np.square(left.astype(np.float64)).sum(axis=1)
        base = stream.name + SEPARATOR
        head = np.array([option.rank & 255, option.rank >> 8, option.way], np.uint8)
        out: list[Stream] = [BitStream(base + _HEAD, head, 24, "index", 8)]
        for name, start, stop in self._groups(option.rank):
            values = np.concatenate([left[start:stop].reshape(-1), right[start:stop].reshape(-1)])
            if name == _EXACT:
                out.append(BitStream.from_array(base + name, to_halves(values), "exact"))
                continue
            effect = np.concatenate([np.repeat(slope[start:stop], side.shape[1]) for side in (left, right)])
            out.append(AnalogStream(base + name, values, np.minimum(effect, 1e38).astype(np.float32)))
        return out


def _options(stream: AnalogStream, context: Context) -> list[_Option]:
    """Every rank that takes fewer values than the tensor, in both layouts; first the tensor as it is."""
    shape = context.shapes.get(stream.name, ())
    out = [_Option(len(stream), 0.0)]
    for way in (ROWS, SEPARABLE):
        matrix = matrix_shape(shape, way)
        if matrix is None:
            continue
        try:
            squares = energies(to_matrix(stream.values, shape, way))
        except np.linalg.LinAlgError:
            raise TensorError(f"{stream.name}: its singular values were not found; leave it out of low-rank") from None
        left = np.append(np.cumsum(squares[::-1])[::-1], 0.0)
        most = min((len(stream) - 1) // sum(matrix), len(squares), _MOST)
        out += [_Option(rank * sum(matrix), float(left[rank]), way, rank) for rank in range(int(left[0] > 0), most + 1)]
    return out


def _decomposed(stream: AnalogStream, shape: tuple[int, ...], option: _Option) -> tuple[F32, F32]:
    try:
        return components(to_matrix(stream.values, shape, option.way), option.rank)
    except np.linalg.LinAlgError:
        raise TensorError(f"{stream.name}: its singular vectors were not found; leave it out of low-rank") from None


def _steepest(now: _Option, values: I64, errors: F64, left: int) -> tuple[float, int] | None:
    """Return error taken off per value and place of the option that takes off most, if `left` more values allow any."""
    more = values - now.values
    allowed = (more > 0) & (more <= left) & (errors < now.error)
    if not allowed.any():
        return None
    slope = np.where(allowed, (now.error - errors) / np.maximum(more, 1), -1.0)
    best = int(slope.argmax())
    return float(slope[best]), best
