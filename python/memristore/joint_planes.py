"""Planes that are written and read together: one value in two cells, or two values in one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial, reduce
from typing import TYPE_CHECKING

import numpy as np

from memristore.array import F32, read_cells
from memristore.array import channel as channel_at
from memristore.codes import AnalogCode
from memristore.mapping import PlaneParams, fold
from memristore.mapping.axis import unit
from memristore.mapping.density import Density
from memristore.mapping.remainder import Remainder, correction
from memristore.mapping.spread import Joint, PlaneCurve, surface
from memristore.spec import StorageSpec

if TYPE_CHECKING:
    from memristore.devices.moments import Channel
    from memristore.planes import CellBlock


def _joint(spec: StorageSpec, copies: tuple[int, int]) -> Joint:
    return Joint(spec.mapper, channel_at(spec.cell, spec.write, spec.retention_seconds), copies)


class JointWriter:
    """What a writer of planes does with curves; see `memristore.codes.code.PlaneWriter`."""

    spec: StorageSpec
    params: list[PlaneParams]
    block: CellBlock
    key: int
    threads: int
    predict: Callable[[F32, AnalogCode], float] | None

    def _place(self, values: F32, params: PlaneParams, averaged: int, over: bool) -> None:
        raise NotImplementedError

    def _positions(self, positions: F32, copies: int) -> None:
        """Program window positions; the array is overwritten."""
        frame = unit(self.spec.mapper)
        if frame.lo:
            positions += np.float32(frame.lo)
        self._place(positions, frame, copies, False)

    def predicted(self, values: F32, code: AnalogCode) -> float:
        """Mean squared error per value predicted for another code."""
        if self.predict is None:
            raise RuntimeError("this writer cannot predict")
        return self.predict(values, code)

    def spread(self, values: F32, copies: tuple[int, int], curve: str) -> None:
        """Write each value into two coordinates."""
        joint = _joint(self.spec, copies)
        params, path = joint.fit(values, curve, self.threads)
        self.params.append(params if params.constant else replace(params, followed=True))
        if params.constant:
            return
        self.params.append(path.to_params())
        for positions, count in zip(joint.encode(values, params, path, self.threads), copies, strict=True):
            self._positions(positions, count)

    def fold(self, values: F32, copies: int) -> None:
        """Write two values into each symbol."""
        spec = self.spec
        channel = channel_at(spec.cell, spec.write, spec.retention_seconds)
        params = fold.window(spec.mapper, values, channel, self.threads)
        self.params.append(params if params.constant else replace(params, followed=True))
        if params.constant:
            return
        start = fold.best_start(spec.mapper, channel, copies, params)
        self.params.append(PlaneParams(float(start), 1.0, Density()))
        made = fold.fold(spec.mapper, channel, copies, params, start)
        self._positions(made.encode(values, params, self.threads), copies)


def combine(owner: JointWriter | JointReader, first: int, averaged: int, at: float, event: int, purpose: int) -> F32:
    """Read the planes of one write and average the soft values of its copies."""
    mapper = owner.spec.mapper
    total: F32 | None = None
    for copy in range(averaged):
        reads = []
        for cell in range(mapper.cells_per_symbol):
            plane = first + copy * mapper.cells_per_symbol + cell
            state = owner.block.states[plane]
            reads.append(
                read_cells(
                    owner.spec.cell, owner.key, owner.block.address(plane), state, at,
                    event=event, purpose=purpose, threads=owner.threads,
                )
            )  # fmt: skip
        soft = mapper.soft(reads)
        total = soft if total is None else np.add(total, soft, out=total)
    if total is None:
        raise RuntimeError("a write has at least one plane")
    return total if averaged == 1 else np.multiply(total, np.float32(1.0 / averaged), out=total)


class JointReader:
    """What a reader of planes does with curves; see `memristore.codes.code.PlaneReader`."""

    spec: StorageSpec
    params: list[PlaneParams]
    block: CellBlock
    key: int
    believed: Channel
    threads: int

    parts: list[int]
    #: Whether planes that hold what others left over are read together; each by itself is faster and tells less.
    together: bool = True

    def _soft(self, first: int, copies: int) -> F32:
        raise NotImplementedError

    def _first(self, part: int) -> int:
        raise NotImplementedError

    def _verify(self) -> Channel:
        raise NotImplementedError

    @property
    def writes(self) -> int:
        """Writes of the stream."""
        return len(self.parts)

    def estimate(self, part: int) -> F32:
        """Read and decode one write as the recipe says."""
        raise NotImplementedError

    def recover(self, part: int) -> F32:
        """Read one write and invert the mean response."""
        raise NotImplementedError

    def _missing(self, planes: int) -> bool:
        # Damaged side information may promise cells that are not there.
        wide = self.spec.mapper.cells_per_symbol
        return len(self.params) < 2 or self.params[0].constant or len(self.block.states) < planes * wide

    def spread(self, copies: tuple[int, int]) -> F32:
        """Decode values from two coordinates."""
        if self._missing(sum(copies)):
            return np.full(self.block.values, self.params[0].lo, np.float32)
        decoder = surface(
            _joint(self.spec, copies), self.params[0], PlaneCurve.from_params(self.params[1]), self.believed,
            self.spec.decoder,
        )  # fmt: skip
        wide = self.spec.mapper.cells_per_symbol
        return decoder(self._soft(0, copies[0]), self._soft(copies[0] * wide, copies[1]), self.threads)

    def chained(self) -> F32:
        """Decode values whose writes each hold what the one before left over."""
        spec, last = self.spec, self.writes - 1
        planes = sum(self.parts) * spec.mapper.cells_per_symbol
        alone = not self.together or spec.decoder != "mmse"
        if alone or len(self.block.states) < planes or any(p.constant for p in self.params):
            return reduce(np.add, (self.recover(part) for part in range(last)), self.estimate(last))
        tell = partial(spec.mapper.table, channel=self.believed)
        seen = self._soft(self._first(last), self.parts[last])
        total = tell(self.params[last], planes=self.parts[last], decoder="mmse")(seen, self.threads)
        known = Remainder(replace(self.params[last], followed=False), self.parts[last])
        for part in range(last - 1, -1, -1):
            params, soft = replace(self.params[part], followed=False), self._soft(self._first(part), 1)
            total = total + tell(params, planes=1, decoder="inverse")(soft, self.threads)
            found = correction(spec.mapper, params, self._verify(), self.believed, known)
            if found is not None:
                total = found.add(soft, seen, total, self.threads)
            known, seen = Remainder(None, spread=known.spread if found is None else found.spread), total
        return total

    def fold(self, copies: int) -> F32:
        """Decode pairs of values."""
        if self._missing(copies):
            return np.full(self.block.values, self.params[0].lo, np.float32)
        spec, (params, start) = self.spec, self.params[:2]
        channel = channel_at(spec.cell, spec.write, spec.retention_seconds)
        made = fold.fold(spec.mapper, channel, copies, params, int(min(max(start.lo, 0.0), 64.0)))
        pair = fold.tables(made, spec.mapper, copies, params, self.believed)
        return fold.decode(pair, self._soft(0, copies), self.block.values, self.threads)
