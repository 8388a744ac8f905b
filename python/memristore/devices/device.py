"""The device: frozen curves and numbers with units and a citation. Data, never code."""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass, field
from typing import Any, Final

from memristore import _core
from memristore.devices.ageing import AgedAt, between, check_series, series_from_list
from memristore.devices.compiled import DOMAINS, core_device
from memristore.devices.curve import Curve, curve_from_dict
from memristore.devices.facts import Fact, facts_from_dict
from memristore.errors import DeviceError
from memristore.units import format_time

SCHEMA: Final = "memristore.device"
VERSION: Final = 1
#: How far a device's numbers can be trusted.
MARKS: Final = ("sourced", "computed", "recalled", "definition")
UNITS: Final = {"conductance": "uS", "log-resistance": "log10(ohm)"}

_CURVES: Final = (
    "response",
    "write",
    "cell",
    "drift_mean",
    "drift_std",
    "relaxation",
    "read",
    "relaxation_shift",
    "activation",
)
# Keys that came later: left out of files where they say nothing.
_LATER: Final = ("ageing", "data_until", "state_unit", "devices_per_cell", "facts", "branch")
_PAIRS: Final = ("state_range", "clip", "stuck_states", "relaxation_mean", "relaxation_growth", "branch")


@dataclass(frozen=True, kw_only=True)
class PulseModel:
    """How a cell answers one programming pulse. State units are uS or log10(ohm).

    Parameters
    ----------
    start : float
        State before the first pulse.
    step : float
        Share of the remaining error that a pulse removes on average.
    spread : float
        Standard deviation of a pulse's effect, relative to its mean effect.
    noise : float
        Standard deviation of a pulse's effect that does not depend on its size, state units.
    verify_std : float
        Read noise of one verify read, state units.
    band : float
        A cell is accepted when a verify read lies within this distance of its target, state units.
    max_pulses : int
        Pulses after which a cell that was not accepted counts as failed.
    mark : str
        Where the numbers come from.
    """

    start: float
    step: float
    spread: float
    noise: float
    verify_std: float
    band: float
    max_pulses: int
    mark: str = "recalled"


@dataclass(frozen=True, kw_only=True)
class Device:
    """A kind of memory cell.

    The target x of a cell is its write parameter, normalised to [0, 1]. Write-time curves are functions of x. Ageing
    curves are functions of u = (programmed state - state_range[0]) / (state_range[1] - state_range[0]).

    Parameters
    ----------
    name, title, technology, citation, mark : str
        Registry key, words for people, source, and one of ``sourced``, ``computed``, ``recalled``, ``definition``.
    domain : {"conductance", "log-resistance"}
        State in uS, drifting by a factor, or in log10(ohm), drifting by a sum.
    state_range : (float, float)
        States that u = 0 and u = 1 stand for.
    response : Curve
        x to mean programmed state.
    write, cell : Curve
        x to the spread of single writes, and of fixed cell-to-cell offsets; state units.
    drift_mean, drift_std, drift_t0 : Curve, Curve, float
        u to mean and spread of the drift exponent; reference time in seconds. G(t) = G ((t + t0) / t0)^-|nu|.
    relaxation, relaxation_shift, relaxation_mean, relaxation_growth, relaxation_t0
        Spread and mean shift at unit growth against u; at time t > 0 the growth is g0 + g1 ln(max(t / t0, 1)), and the
        mean shifts by m0 + m1 ln(max(t / t0, 1)) more.
    ageing : tuple of AgedAt
        Instead of these: shift and spread against u at times of measurement, on straight lines in
        ln(1 + t / relaxation_t0) between them (the spread squared) and unchanged after the last.
    read, read_relative, read_t0 : Curve, bool, float
        u to read spread, relative to the state or in state units. With read_t0 > 0 it is 1/f noise: multiplied by
        sqrt(ln((T + t_r) / (2 t_r))), T = t + drift_t0.
    clip : (float, float)
        Physical limits of a state.
    stuck_low, stuck_high, stuck_states
        Probabilities of cells stuck at stuck_states[0] and [1].
    pulse : PulseModel, optional
        What program-and-verify needs.
    samples : int
        Measured writes behind each spread (0: not said); tails beyond them are extrapolated.
    time_data : bool
        False where no data on time exist, so that states are taken as constant.
    data_until : float, optional
        Age of the oldest measurement in seconds; later reads are extrapolated.
    state_unit : str
        Unit of a state where it is neither uS nor log10(ohm).
    devices_per_cell : int
        Physical devices that a cell consists of.
    branch : (float, float)
        Targets between which the mean response is monotone: what linear maps use. All others may use them all.
    activation : Curve
        u to the activation energy of conduction in eV, for reads at other temperatures than the measurement's.
    facts : tuple of Fact
        Endurance, energy and time of a pulse and others: told, not simulated.

    Raises
    ------
    DeviceError
        If a number is out of range.
    """

    name: str
    title: str
    technology: str
    citation: str
    mark: str
    domain: str
    state_range: tuple[float, float]
    response: Curve
    write: Curve = field(default_factory=Curve)
    cell: Curve = field(default_factory=Curve)
    drift_mean: Curve = field(default_factory=Curve)
    drift_std: Curve = field(default_factory=Curve)
    drift_t0: float = 1.0
    relaxation: Curve = field(default_factory=Curve)
    relaxation_mean: tuple[float, float] = (0.0, 0.0)
    relaxation_growth: tuple[float, float] = (0.0, 0.0)
    relaxation_t0: float = 1.0
    relaxation_shift: Curve = field(default_factory=Curve)
    ageing: tuple[AgedAt, ...] = ()
    read: Curve = field(default_factory=Curve)
    read_relative: bool = False
    read_t0: float = 0.0
    clip: tuple[float, float] = (-math.inf, math.inf)
    stuck_low: float = 0.0
    stuck_high: float = 0.0
    stuck_states: tuple[float, float] | None = None
    pulse: PulseModel | None = None
    samples: int = 0
    time_data: bool = True
    data_until: float | None = None
    state_unit: str = ""
    devices_per_cell: int = 1
    branch: tuple[float, float] = (0.0, 1.0)
    activation: Curve = field(default_factory=Curve)
    facts: tuple[Fact, ...] = ()
    notes: str = ""

    def __post_init__(self) -> None:
        if self.domain not in DOMAINS:
            raise DeviceError(f"{self.name}: unknown domain {self.domain!r}; there are {', '.join(DOMAINS)}")
        if self.mark not in MARKS:
            raise DeviceError(f"{self.name}: unknown mark {self.mark!r}; there are {', '.join(MARKS)}")
        if not self.response:
            raise DeviceError(f"{self.name}: a device needs a response curve")
        low, high = self.state_range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise DeviceError(f"{self.name}: state_range must be two finite numbers in rising order")
        for what in ("drift_t0", "relaxation_t0"):
            if not getattr(self, what) > 0:
                raise DeviceError(f"{self.name}: {what} must be a positive time in seconds")
        if not (self.stuck_low >= 0 and self.stuck_high >= 0 and self.stuck_low + self.stuck_high <= 1):
            raise DeviceError(f"{self.name}: stuck_low and stuck_high must be probabilities that sum to at most 1")
        if self.data_until is not None and not self.data_until >= 0:
            raise DeviceError(f"{self.name}: data_until must be a time in seconds")
        if not (isinstance(self.devices_per_cell, int) and self.devices_per_cell >= 1):
            raise DeviceError(f"{self.name}: devices_per_cell must be a whole number from 1 on")
        if not 0 <= self.branch[0] < self.branch[1] <= 1:
            raise DeviceError(f"{self.name}: branch must be two targets in [0, 1] in rising order")
        check_series(self.name, self.ageing)
        if self.ageing and (self.relaxation or self.relaxation_shift or self.relaxation_mean != (0.0, 0.0)):
            raise DeviceError(f"{self.name}: give either 'ageing' or the relaxation curves, not both")

    @property
    def unit(self) -> str:
        """Unit of a state."""
        return self.state_unit or UNITS[self.domain]

    @property
    def drifts(self) -> bool:
        """Whether states move systematically with time."""
        shifts = bool(self.relaxation_shift) or any(item.shift for item in self.ageing)
        return bool(self.drift_mean) or bool(self.drift_std) or self.relaxation_mean != (0.0, 0.0) or shifts

    @property
    def changes(self) -> bool:
        """Whether a read depends on the time since programming."""
        return self.drifts or bool(self.relaxation) or bool(self.ageing) or (bool(self.read) and self.read_t0 > 0)

    def stages(self) -> dict[str, str]:
        """Which noise stages the device has, in words; a stage that is off says so."""

        def on(active: bool, text: str) -> str:
            return text if active else "none"

        faulty = self.stuck_low + self.stuck_high > 0
        return {
            "write noise": on(bool(self.write), "per write"),
            "cell-to-cell": on(bool(self.cell), "fixed per cell"),
            "drift": on(bool(self.drift_mean or self.drift_std), f"power law, t0 = {self.drift_t0:g} s, per cell"),
            "relaxation": self._relaxation_in_words(),
            "read noise": on(bool(self.read), "1/f, per read" if self.read_t0 > 0 else "white, per read"),
            "faults": on(faulty, f"stuck low {self.stuck_low:g}, stuck high {self.stuck_high:g}"),
        }

    def _relaxation_in_words(self) -> str:
        if self.ageing:
            times = ", ".join(format_time(item.at) for item in self.ageing)
            return f"tables at {times}; between them by ln t, unchanged afterwards"
        relaxes = self.relaxation or self.relaxation_shift or self.relaxation_mean != (0.0, 0.0)
        return "grows with ln t" if relaxes else "none"

    def core(self, at: float = 0.0) -> _core.Device:
        """Return the kernels' form of this device for reads `at` seconds after programming (made once)."""
        return core_device(self.aged(at))

    def aged(self, at: float) -> Device:
        """Return this device with the relaxation curves of one time in place of its series, if it has one."""
        return _aged(self, at) if self.ageing else self

    def log2_age(self, at: float) -> float:
        """log2((t + t0) / t0) of a read `at` seconds after programming."""
        return math.log2((at + self.drift_t0) / self.drift_t0)

    def read_time(self, at: float) -> _core.ReadTime:
        """What a read `at` seconds after programming means to the kernels."""
        mean, growth = self.relaxation_at(at)
        return _core.ReadTime(
            log2_age=self.log2_age(at), relax_mean=mean, relax_scale=growth, read_scale=self.read_scale(at)
        )

    def relaxation_at(self, at: float) -> tuple[float, float]:
        """Mean shift (state units) and growth of the relaxation spread, `at` seconds after programming."""
        if self.ageing:
            return 0.0, 1.0 if at > 0 else 0.0
        if at <= 0 or not (self.relaxation or self.relaxation_shift or self.relaxation_mean != (0.0, 0.0)):
            return 0.0, 0.0
        log = math.log(max(at / self.relaxation_t0, 1.0))
        m, g = self.relaxation_mean, self.relaxation_growth
        return m[0] + m[1] * log, max(g[0] + g[1] * log, 0.0)

    def read_scale(self, at: float) -> float:
        """Factor on the read spread, `at` seconds after programming."""
        if not self.read:
            return 0.0
        if self.read_t0 <= 0:
            return 1.0
        return math.sqrt(max(math.log((at + self.drift_t0 + self.read_t0) / (2 * self.read_t0)), 0.0))

    def replace(self, **changes: Any) -> Device:
        """Return a copy with fields changed, for example ``device.replace(stuck_low=1e-3)``."""
        return dataclasses.replace(self, **changes)

    def with_read_share(self, share: float) -> Device:
        """Move a share of the write variance to read time, fresh at every read.

        Measured tables give the total spread of write-then-read; which part is fixed at the write is often unknown.

        Parameters
        ----------
        share : float
            Share of the variance that is read noise, in [0, 1].

        Returns
        -------
        Device
            With the same total spread within 10 %: read noise is looked up by the state that was written, not by its
            target.

        Raises
        ------
        DeviceError
            If the device has read noise of its own, or the share is out of range.
        """
        if not 0 <= share <= 1:
            raise DeviceError(f"{self.name}: a share lies in [0, 1], not {share!r}")
        if self.read:
            raise DeviceError(f"{self.name}: has read noise of its own; its share cannot be set")
        # The read curve's argument is u, not x: resample the write spread along the mean response.
        from memristore.devices.resample import along_state

        name = f"{self.name}?read_share={share:g}"
        write = self.write.scaled(math.sqrt(1 - share)) if share < 1 else Curve()
        read = along_state(self).scaled(math.sqrt(share)) if share > 0 else Curve()
        return self.replace(name=name, write=write, read=read, read_relative=False)

    @classmethod
    def from_measurements(cls, table: Any, **options: Any) -> Device:
        """Make a device of a table of writes and reads: see `memristore.fit_measurements`, which also keeps the fit."""
        from memristore.devices.measurements import fit_measurements

        return fit_measurements(table, **options).device

    def save(self, path: str) -> None:
        """Write a device file (.toml), which loads like a built-in device."""
        from memristore.devices.writing import save

        save(self, path)

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict, the form of device files."""
        out: dict[str, Any] = {"schema": SCHEMA, "version": VERSION}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Curve):
                if value:
                    out[item.name] = value.to_dict()
            elif item.name in _LATER and value == item.default:
                continue
            elif item.name == "ageing":
                out[item.name] = [moment.to_dict() for moment in value]
            elif item.name == "facts":
                out[item.name] = {fact.what: fact.to_dict() for fact in value}
            elif isinstance(value, PulseModel):
                out[item.name] = dataclasses.asdict(value)
            elif isinstance(value, tuple):
                # JSON has no infinity: None stands for a side without limit.
                out[item.name] = [v if math.isfinite(v) else None for v in value]
            elif value is not None:
                out[item.name] = value
        return out


@functools.lru_cache(maxsize=256)
def _aged(device: Device, at: float) -> Device:
    shift, spread = between(device.ageing, device.relaxation_t0, at)
    growth = (1.0, 0.0) if at > 0 else (0.0, 0.0)
    return device.replace(ageing=(), relaxation=spread, relaxation_shift=shift, relaxation_growth=growth)


def device_from_dict(data: Any, where: str = "device") -> Device:
    """Build a device from the form of device files.

    Parameters
    ----------
    data : dict
        As in a device file; see CONTRIBUTING.
    where : str
        Named in errors.

    Returns
    -------
    Device

    Raises
    ------
    DeviceError
        If a key is unknown, missing or of the wrong kind.
    """
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise DeviceError(f"{where}: not a device (its 'schema' must be {SCHEMA!r})")
    if data.get("version") != VERSION:
        raise DeviceError(f"{where}: version {data.get('version')!r} is not known; this release reads {VERSION}")
    given = {k: v for k, v in data.items() if k not in ("schema", "version")}
    known = {item.name for item in dataclasses.fields(Device)}
    if unknown := sorted(set(given) - known):
        raise DeviceError(f"{where}: unknown key {', '.join(unknown)}; keys are {', '.join(sorted(known))}")
    try:
        for key in _CURVES:
            if key in given:
                given[key] = curve_from_dict(given[key], f"{where}: {key}")
        for key in _PAIRS:
            if given.get(key) is not None:
                low, high = given[key]
                given[key] = (-math.inf if low is None else float(low), math.inf if high is None else float(high))
        if "ageing" in given:
            given["ageing"] = series_from_list(given["ageing"], f"{where}: ageing")
        if "facts" in given:
            given["facts"] = facts_from_dict(given["facts"], f"{where}: facts")
        if given.get("pulse") is not None:
            given["pulse"] = PulseModel(**given["pulse"])
        return Device(**given)
    except (TypeError, ValueError) as error:
        if isinstance(error, DeviceError):
            raise
        raise DeviceError(f"{where}: {error}") from None
