"""Cells: written once or by program-and-verify, aged, and read as a pure function of (state, time, event)."""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from memristore import _core, devices
from memristore.config import Configurable, check_number
from memristore.devices.device import Device, PulseModel
from memristore.devices.grid import unpack_state
from memristore.devices.moments import Channel, one_shot, state_moments, target_grid
from memristore.devices.temperature import ROOM, heated
from memristore.errors import DeviceError, SpecError
from memristore.rng import key as make_key
from memristore.units import Time, format_time, parse_time

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]

READ: Final = _core.PURPOSES["read"]
VERIFY_READ: Final = _core.PURPOSES["verify_read"]
#: Most writes of a cell in one programming; each has a number of its own.
_MOST_WRITES: Final = 256


class Write(Configurable):
    """How cells are written."""

    def describe(self, device: Device) -> str:
        """Say in words what this write does on a device."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class OneShot(Write):
    """One write per cell; its spread is the device's write curve."""

    name: ClassVar[str] = "one-shot"

    def describe(self, device: Device) -> str:
        return "one-shot" + (f", spread of {device.title.split(',')[0]}" if device.write else ", exact")


@dataclass(frozen=True, kw_only=True)
class ProgramAndVerify(Write):
    """Pulse, read, repeat until a noisy verify read lies in the acceptance band. None takes the device's own number.

    Replaces the device's write curve. Where that curve is itself the spread left by a verify loop (``pcm-ibm-90nm``),
    the simulated loop stands for another, here better, programming algorithm; its numbers carry a mark of their own.

    Parameters
    ----------
    band, start, noise, verify_std : float, optional
        State units (uS or log10(ohm)).
    step, spread : float, optional
        Mean share of the remaining error that a pulse removes, and its relative spread.
    max_pulses : int, optional
        Cells not accepted after as many pulses count as failed.
    delay : float or str
        Time between a pulse and its verify read; the drift of that time is corrected too.
    """

    name: ClassVar[str] = "program-and-verify"
    band: float | None = None
    start: float | None = None
    step: float | None = None
    spread: float | None = None
    noise: float | None = None
    verify_std: float | None = None
    max_pulses: int | None = None
    delay: Time = 0.0

    def __post_init__(self) -> None:
        for field, high in (("band", 1e6), ("step", 2.0), ("spread", 10.0), ("noise", 1e6), ("verify_std", 1e6)):
            if getattr(self, field) is not None:
                check_number(self.name, field, getattr(self, field), 0, high)
        if self.max_pulses is not None:
            check_number(self.name, "max_pulses", self.max_pulses, 0, _core.MAX_PULSES, integer=True)
        parse_time(self.delay)

    def model(self, device: Device) -> PulseModel:
        """Return the pulse model in force on a device.

        Raises
        ------
        SpecError
            If neither the device nor this object gives one of the numbers.
        """
        values = {}
        for field in ("start", "step", "spread", "noise", "verify_std", "band", "max_pulses"):
            own = getattr(self, field)
            if own is None and device.pulse is None:
                raise SpecError(f"{device.name} has no pulse data; give program-and-verify its own {field!r}")
            values[field] = getattr(device.pulse, field) if own is None else own
        return PulseModel(**values)

    def core(self, device: Device) -> _core.Pulse:
        """Return the kernels' form."""
        m = self.model(device)
        return _core.Pulse(
            start=m.start,
            step=m.step,
            spread=m.spread,
            noise=m.noise,
            verify_std=m.verify_std,
            band=m.band,
            log2_delay=device.log2_age(parse_time(self.delay)),
            max_pulses=m.max_pulses,
        )

    def describe(self, device: Device) -> str:
        m = self.model(device)
        return (
            f"program-and-verify, band {m.band:g} {device.unit}, at most {m.max_pulses} pulses, "
            f"verify delay {format_time(parse_time(self.delay))}; pulse numbers {m.mark}"
        )


@dataclass(frozen=True, kw_only=True)
class BestOf(Write):
    """Write, read, write again until the read is near enough; no pulse data needed.

    A write replaces the one before, so the best of several cannot be had back: each is kept or given up before the next
    is known. A cell is left alone once its verify read lies within a threshold of the mean read of its target: the root
    mean square error, in spreads of one-shot reads, that the writes still left are expected to end with, which is the
    best rule there is for normal noise. The last write is kept as it is; cells further off then than one spread count
    as failed. Every write is counted as a pulse.

    Parameters
    ----------
    writes : int
        At most so many writes of each cell; 1 is a one-shot write.

    Notes
    -----
    Each write draws the device's write noise afresh; the fixed offset of a cell stays. Verify reads are noisy, so noise
    made at read time sets the limit. Cells that hold bits are written once. Optimal stopping with known distribution:
    L. Moser, "On a problem of Cayley", Scripta Mathematica 22 (1956).
    """

    name: ClassVar[str] = "best-of"
    writes: int = 4

    def __post_init__(self) -> None:
        check_number(self.name, "writes", self.writes, 1, _MOST_WRITES, integer=True)

    def thresholds(self) -> list[float]:
        """Distance, in spreads, within which each write is kept; that of the last marks failures."""
        left, out = 1.0, [1.0]
        for _ in range(self.writes - 1):
            reach = math.sqrt(left)
            out.append(round(reach * 2.0**20) / 2.0**20)
            inside = math.erf(reach / math.sqrt(2.0))
            left = inside - reach * math.sqrt(2.0 / math.pi) * math.exp(-0.5 * left) + left * (1.0 - inside)
        return out[::-1]

    def program(self, device: Device, key: int, event: int, first: int, targets: F32, threads: int) -> Programmed:
        """Write targets, shape (n,), into the cells from address `first` on."""
        near, spread = one_shot(device, 0.0).at_targets(targets)
        kept = np.empty_like(targets)
        pulses, failed = np.zeros(targets.size, np.uint16), np.zeros(targets.size, np.uint8)
        state, active = np.empty_like(targets), np.ones(targets.size, np.bool_)
        for number, threshold in enumerate(self.thresholds()):
            # Draws are named by their number: a cell's fourth write is the same whatever became of the others.
            again = event * _MOST_WRITES + number
            _core.program(device.core(), key, again, first, targets, state, threads)
            seen = read_cells(device, key, first, state, 0.0, event=again + 1, purpose=VERIFY_READ, threads=threads)
            np.copyto(kept, state, where=active)
            pulses += active
            off = np.abs(seen - near) > threshold * spread
            active &= off
            if not active.any():
                break
        failed[active] = 1
        return Programmed(kept, pulses, failed)

    def describe(self, device: Device) -> str:
        return f"rewritten until a verify read is near, at most {self.writes} writes; bits are written once"


WRITES: Final[dict[str, type[Write]]] = {w.name: w for w in (OneShot, ProgramAndVerify, BestOf)}


@dataclass(frozen=True, eq=False)
class Programmed:
    """What a write left behind.

    Parameters
    ----------
    state : ndarray, shape (n,), float32
        Programmed states, uS or log10(ohm).
    pulses, failed : ndarray or None
        Per cell: pulses used (uint16) and 1 where the cell was not accepted (uint8); None for one-shot writes.
    """

    state: F32
    pulses: U16 | None = None
    failed: U8 | None = None


def write_cells(
    device: Device,
    write: Write,
    key: int,
    first: int,
    targets: F32,
    *,
    event: int = 0,
    threads: int = 0,
    out: F32 | None = None,
) -> Programmed:
    """Write targets x, shape (n,), into the cells `first`, `first` + 1, ... of the array named by `key`.

    States go to `out`, shape (n,), where it is given.
    """
    state = np.empty_like(targets) if out is None else out
    if isinstance(write, BestOf):
        done = write.program(device, key, event, first, targets, threads)
        if out is None:
            return done
        out[:] = done.state
        return dataclasses.replace(done, state=out)
    if isinstance(write, ProgramAndVerify):
        pulses, failed = np.empty(targets.size, np.uint16), np.empty(targets.size, np.uint8)
        _core.program_and_verify(
            device.core(), write.core(device), key, event, first, targets, state, pulses, failed, threads
        )
        return Programmed(state, pulses, failed)
    _core.program(device.core(), key, event, first, targets, state, threads)
    return Programmed(state)


def read_cells(
    device: Device,
    key: int,
    first: int,
    programmed: F32 | U16,
    at: float,
    *,
    event: int = 0,
    purpose: int = READ,
    threads: int = 0,
) -> F32:
    """Read programmed states, shape (n,), float32 or packed, `at` seconds after programming."""
    state = unpack_state(device, programmed)
    out = np.empty_like(state)
    _core.age_and_read(device.core(at), device.read_time(at), key, purpose, event, first, state, out, threads)
    return out


@functools.lru_cache(maxsize=256)
def channel(device: Device, write: Write, at: float) -> Channel:
    """Mean and spread of a read against the target, `at` seconds after programming.

    One-shot writes are integrated by quadrature. What other writes leave is simulated with a fixed key (4096 cells at
    each target: 1.1 % standard error of a spread), then aged by the same quadrature.
    """
    if isinstance(write, OneShot):
        return one_shot(device, at)
    x, mean, std = _verified_moments(device, write)
    mean, std = state_moments(device, mean, std, at)
    return Channel(device, at, x, mean, std)


@functools.lru_cache(maxsize=32)
def _verified_moments(device: Device, write: Write) -> tuple[F64, F64, F64]:
    cells = 4096
    x = target_grid(device)
    targets = np.repeat(x, cells).astype(np.float32)
    state = (
        write_cells(device, write, make_key(0, "channel"), 0, targets).state.astype(np.float64).reshape(x.size, cells)
    )
    return x, state.mean(axis=1), state.std(axis=1)


class CellArray:
    """Cells of one device.

    Parameters
    ----------
    device : Device or str
    n : int
        Number of cells.
    seed : int
        Names the array: the same seed gives the same cells.
    threads : int
        Threads for kernels; 0 means all. Results do not depend on it.

    Examples
    --------
    >>> import numpy as np
    >>> from memristore import CellArray
    >>> cells = CellArray("pcm-ibm-90nm", 1000, seed=1)
    >>> _ = cells.program(np.full(1000, 0.5, dtype=np.float32))
    >>> bool(cells.read(at="1 year").mean() < cells.read(at=0).mean())
    True
    """

    def __init__(self, device: Device | str, n: int, *, seed: int, threads: int = 0) -> None:
        check_number("cell array", "n", n, 0, 2**40, integer=True)
        self.device = devices.get(device) if isinstance(device, str) else device
        self.n = n
        self.key = make_key(seed, "array")
        self.threads = threads
        self.programmed: Programmed | None = None

    def program(self, targets: npt.ArrayLike, *, write: Write | None = None, event: int = 0) -> Programmed:
        """Program every cell.

        Parameters
        ----------
        targets : array_like, shape (n,)
            Write parameters in [0, 1].
        write : Write
            One-shot by default.
        event : int
            Number of this programming; another number draws fresh write noise.

        Returns
        -------
        Programmed

        Raises
        ------
        DeviceError
            If targets have the wrong shape, or lie outside [0, 1].
        """
        x = np.ascontiguousarray(targets, dtype=np.float32)
        if x.shape != (self.n,):
            raise DeviceError(f"an array of {self.n} cells takes targets of shape ({self.n},), not {x.shape}")
        if x.size and not (x.min() >= 0 and x.max() <= 1):
            raise DeviceError("targets must be finite and lie in [0, 1]")
        how = OneShot() if write is None else write
        self.programmed = write_cells(self.device, how, self.key, 0, x, event=event, threads=self.threads)
        return self.programmed

    def stuck(self) -> U8:
        """Return the map of stuck cells, shape (n,): 0 healthy, 1 stuck low, 2 stuck high.

        Nothing in a stored model looks at it: decoders there take stuck cells as unknown.
        """
        out = np.empty(self.n, np.uint8)
        _core.faults(self.device.core(), self.key, 0, out, self.threads)
        return out

    def read(
        self, *, at: Time = 0.0, event: int = 0, start: int = 0, stop: int | None = None, kelvin: float = ROOM
    ) -> F32:
        """Read cells [start, stop). The same event gives the same noise.

        Parameters
        ----------
        at : float or str
            Time since programming, seconds or words.
        event : int
            Number of the read; another number draws fresh read noise.
        kelvin : float
            Temperature of the read, for devices with activation energies (recalled, unverified).

        Returns
        -------
        ndarray, shape (stop - start,), float32
            States, uS or log10(ohm).

        Raises
        ------
        DeviceError
            If the array has not been programmed.
        """
        if self.programmed is None:
            raise DeviceError("this array has not been programmed; call program first")
        if not 0 <= start <= (self.n if stop is None else stop) <= self.n:
            raise DeviceError(f"cells [{start}, {stop}) do not lie in an array of {self.n} cells")
        part = self.programmed.state[start:stop]
        seen = read_cells(self.device, self.key, start, part, parse_time(at), event=event, threads=self.threads)
        return seen if kelvin == ROOM else heated(self.device, part, seen, kelvin)
