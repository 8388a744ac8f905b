"""Devices from the objects of other simulators: aihwkit's noise models and CrossSim's device models.

Nothing of theirs is imported: objects are known by the names of their classes and read by their attributes. Formulas
are those of IBM aihwkit (src/aihwkit/inference/noise) and Sandia CrossSim (simulator/devices).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from memristore.devices.ageing import AgedAt
from memristore.devices.curve import Curve
from memristore.devices.device import Device
from memristore.errors import DeviceError

_KNOTS: Final = 121
_STOP: Final = 1.2


def _poly(values: Any, scale: float = 1.0, **limits: float) -> Curve:
    numbers = tuple(float(v) * scale for v in values)
    return Curve(form="poly", values=numbers, **limits) if any(numbers) else Curve()


def _table(u: Any, values: Any) -> Curve:
    return Curve(form="table", values=tuple(float(v) for v in values), start=float(u[0]), stop=float(u[-1]))


def _bases(item: object) -> list[str]:
    return [kind.__name__ for kind in type(item).__mro__]


def _needed(item: object, *names: str) -> list[Any]:
    missing = [name for name in names if not hasattr(item, name)]
    if missing:
        raise DeviceError(f"{type(item).__name__}: has no attribute {', '.join(missing)}, so it cannot be imported")
    return [getattr(item, name) for name in names]


def _device(item: object, simulator: str, name: str | None, **fields: Any) -> Device:
    kind = type(item).__name__
    return Device(
        name=name or f"{simulator.lower()}-{kind}",
        title=f"{simulator}'s {kind}",
        citation=f"imported from {simulator}, class {kind}",
        mark="computed",
        domain="conductance",
        **fields,
    )


def from_aihwkit(model: Any, name: str | None = None) -> Device:
    """Make a device of one of aihwkit's noise models for inference.

    Parameters
    ----------
    model : object
        ``PCMLikeNoiseModel``, ``CustomDriftPCMLikeNoiseModel``, ``HermesNoiseModel``, ``StateIndependentNoiseModel``,
        ``ReRamWan2022NoiseModel`` (its times as tables: what lies between them is this library's) or
        ``ReRamCMONoiseModel``, or one derived from these; a derived class that overrides a formula is not seen.
    name : str, optional
        Of the device.

    Returns
    -------
    Device
        States in uS. Drift follows the programmed conductance, not the target.

    Raises
    ------
    DeviceError
        If the object is none of these, or lacks an attribute.
    """
    makers = {
        "HermesNoiseModel": _hermes,
        "CustomDriftPCMLikeNoiseModel": _custom_drift,
        "PCMLikeNoiseModel": _pcm,
        "StateIndependentNoiseModel": _state_independent,
        "ReRamCMONoiseModel": _cmo,
        "ReRamWan2022NoiseModel": _wan,
    }
    for base in _bases(model):
        if base in makers:
            return makers[base](model, name)
    raise DeviceError(
        f"{type(model).__name__} is no noise model that can be imported; there are {', '.join(sorted(makers))}"
    )


def _phase_change(model: Any, name: str | None, relative: bool, **fields: Any) -> Device:
    """Polynomial write spread, power-law drift, relative 1/f reads: what three of the models share."""
    g_max, coefficients, scale = _needed(model, "g_max", "prog_coeff", "prog_noise_scale")
    reference = getattr(model, "prog_coeff_g_max_reference", g_max) if relative else g_max
    t_0, t_read = _needed(model, "t_0", "t_read")
    return _device(
        model, "aihwkit", name, technology="PCM", state_range=(0.0, float(g_max)), clip=(0.0, math.inf),
        response=_poly((0.0, g_max)), write=_poly(coefficients, scale * g_max / reference, lo=0.0),
        drift_t0=float(t_0), read_relative=True, read_t0=float(t_read), **fields,
    )  # fmt: skip


def _clipped_log(slope: float, offset: float, low: float, high: float, scale: float) -> Curve:
    if scale == 0:
        return Curve()
    return Curve(form="poly-log", values=(offset * scale, slope * scale), lo=low * scale, hi=high * scale)


def _pcm_read(model: Any) -> Curve:
    # 0.0088 / max(g^0.65, 1e-3), at most 0.2: the second bound is met first.
    scale = float(model.read_noise_scale)
    if scale == 0:
        return Curve()
    return Curve(form="exp-log", values=(math.log(0.0088 * scale), -0.65), hi=0.2 * scale)


def _pcm(model: Any, name: str | None) -> Device:
    (scale,) = _needed(model, "drift_scale")
    return _phase_change(
        model, name, True,
        drift_mean=_clipped_log(-0.0155, 0.0244, 0.049, 0.1, scale),
        drift_std=_clipped_log(-0.0125, -0.0059, 0.008, 0.045, scale),
        read=_pcm_read(model),
    )  # fmt: skip


def _custom_drift(model: Any, name: str | None) -> Device:
    drift, scale, g_max = _needed(model, "custom_drift_model", "drift_scale", "g_max")
    u = np.linspace(0.0, _STOP, _KNOTS)
    places = np.asarray(drift["g_lst"], dtype=np.float64) / g_max
    mean, std = (
        np.interp(u, places, np.asarray(drift[k], dtype=np.float64)) * scale for k in ("nu_mean_lst", "nu_std_lst")
    )
    return _phase_change(model, name, True, drift_mean=_table(u, mean), drift_std=_table(u, std), read=_pcm_read(model))


def _state_independent(model: Any, name: str | None) -> Device:
    mean, std, scale, read = _needed(model, "drift_nu_mean", "drift_nu_std", "drift_scale", "read_noise_scale")
    return _phase_change(
        model, name, False, drift_mean=_poly((mean * scale,)), drift_std=_poly((std * scale,)),
        read=_poly((read / model.g_max,)),
    )  # fmt: skip


def _hermes(model: Any, name: str | None) -> Device:
    number, drift, read = _needed(model, "num_devices", "drift_scale", "read_noise_scale")
    u = np.linspace(0.0, _STOP, _KNOTS)
    g, log = np.maximum(u, 1e-7), np.log(np.maximum(u, 1e-7))
    mean = np.where(g < 0.0945, np.clip(-0.0387 * log - 0.0182, 0.072, 0.13), (-0.0436 * g - 0.0126) * g + 0.0736)
    if number == 1:
        std = np.where(g < 0.3039, np.clip(-0.0120 * log - 0.0023, 0.0124, 0.04), (-0.0165 * g + 0.0116) * g + 0.0104)
        high = ((0.0664 * g - 0.1352) * g + 0.0768) * g + 0.0088
        noise = np.where(g < 0.1591, np.clip(-0.0078 * log + 0.0038, 0.0179, 0.04), high)
    else:
        std = np.where(g < 0.3055, np.clip(-0.0117 * log - 0.0057, 0.0091, 0.04), (-0.0118 * g + 0.0093) * g + 0.0073)
        high = ((0.0069 * g - 0.0280) * g + 0.0211) * g + 0.0123
        noise = np.where(g < 0.16, np.clip(-0.0117 * log - 0.0069, 0.015, 0.04), high)
    return _phase_change(
        model, name, True, drift_mean=_table(u, mean * drift), drift_std=_table(u, std * drift),
        read=_table(u, noise * read), devices_per_cell=int(number),
    )  # fmt: skip


def _wan(model: Any, name: str | None) -> Device:
    g_max, series, scale = _needed(model, "g_max", "coeff_dic", "noise_scale")
    size = scale * g_max / getattr(model, "coeff_g_max_reference", g_max)
    u = np.linspace(0.0, 1.0, _KNOTS)
    first, *later = sorted(series)
    start = np.square(np.polyval(series[first][::-1], u))
    gained = [np.sqrt(np.maximum(np.square(np.polyval(series[t][::-1], u)) - start, 0.0)) * size for t in later]
    ageing = [AgedAt(at=float(t), spread=_table(u, spread)) for t, spread in zip(later, gained, strict=True)]
    return _device(
        model, "aihwkit", name, technology="RRAM", state_range=(0.0, float(g_max)), clip=(0.0, math.inf),
        response=_poly((0.0, g_max)), write=_poly(series[first], size, lo=0.0),
        ageing=(AgedAt(at=float(first)), *ageing), relaxation_t0=float(first), data_until=float(max(series)),
        notes=f"The write has the spread of {first:g} s; spread gained later is looked up by the programmed state.",
    )  # fmt: skip


def _cmo(model: Any, name: str | None) -> Device:
    low, high, series, band = _needed(model, "g_min", "g_max", "coeff_dict", "acceptance_range")
    write, read, drift = _needed(model, "prog_noise_scale", "read_noise_scale", "drift_scale")
    decay, reads = _needed(model, "decay_dict", "read_dict")
    offset, slope = series[band if band in series else min(series)]
    span = float(high - low)
    u = np.linspace(0.0, _STOP, _KNOTS)
    noise = reads["K"] * np.log10(np.maximum(low + span * u, 1.0)) * read
    return _device(
        model, "aihwkit", name, technology="RRAM", state_range=(float(low), float(high)),
        clip=(float(low), float(high)),
        response=_poly((low, span)), write=_poly((offset + slope * low, slope * span), write, lo=0.0),
        relaxation=_poly((1.0,)), relaxation_mean=(0.0, decay["mean"][0] * drift),
        relaxation_growth=(decay["std"][1] * drift, decay["std"][0] * drift), relaxation_t0=1.0,
        read=_table(u, noise) if np.any(noise) else Curve(), read_t0=float(reads["t_read"]), drift_t0=1e-6,
    )  # fmt: skip


#: CrossSim's models of one measured device: technology, largest conductance (uS), spread against it.
_CROSSSIM: Final[dict[str, tuple[str, float, tuple[float, ...]]]] = {
    "PCMJoshi": ("PCM", 25.0, (0.28638599, 0.07585724, -0.00178767)),
    "RRAMMilo": ("RRAM", 225.0, (4.782321, -0.009107)),
    "RRAMWan": ("RRAM", 39.26, (1.053, 0.2374, -1.167e-2, 1.536e-4)),
}


def from_crosssim(params: Any, name: str | None = None) -> Device:
    """Make a device of CrossSim's device parameters.

    Parameters
    ----------
    params : object or mapping
        ``xbar.device`` of CrossSim's parameters: `programming_error` and `read_noise` (each with `enable`, `model` and
        `magnitude`), `Rmin` and `Rmax` in ohm. Models: ``PCMJoshi``, ``RRAMMilo``, ``RRAMWan``, ``SONOS`` (programming
        error at time 0), ``NormalIndependentDevice``, ``NormalProportionalDevice``, ``IdealDevice``.
    name : str, optional
        Of the device.

    Returns
    -------
    Device
        States in uS (SONOS: nA). Without time: CrossSim evaluates drift at one time.

    Raises
    ------
    DeviceError
        If a model is not known, or a parameter is missing.
    """
    r_min, r_max = (_entry(params, key) for key in ("Rmin", "Rmax"))
    error, noise = (_entry(params, key) for key in ("programming_error", "read_noise"))
    model = str(_entry(error, "model")) if _entry(error, "enable", True) else "IdealDevice"
    low, high = 1e6 / float(r_max), 1e6 / float(r_min)
    if not 0 <= low < high < math.inf:
        raise DeviceError(
            f"CrossSim parameters: Rmin and Rmax must be positive and Rmin the smaller, not {r_min}, {r_max}"
        )
    fields: dict[str, Any] = {"technology": "unknown", "clip": (0.0, math.inf)}
    if model == "SONOS":
        # CrossSim's currents: 1600 nA at the largest conductance.
        low, high = 1600.0 * low / high, 1600.0
        fields |= {"technology": "SONOS", "state_unit": "nA"}
    u = np.linspace(0.0, 1.0, _KNOTS)
    states = low + (high - low) * u
    if model in _CROSSSIM:
        technology, most, coefficients = _CROSSSIM[model]
        if high > most * (1 + 1e-9):
            raise DeviceError(f"CrossSim parameters: {model} holds up to {most:g} uS; Rmin gives {high:g} uS")
        fields["technology"] = technology
        write = _table(u, np.maximum(np.polyval(coefficients[::-1], states), 0.0))
    else:
        write = _spread(model, _entry(error, "magnitude", 0.0), states, low, high, "programming_error")
    wanted = str(_entry(noise, "model")) if _entry(noise, "enable", True) else "IdealDevice"
    read = _spread(wanted, _entry(noise, "magnitude", 0.0), states, low, high, "read_noise", reading=True)
    key = name or f"crosssim-{model}"
    return Device(
        name=key, title=f"CrossSim's {model}", citation=f"imported from CrossSim, model {model}", mark="computed",
        domain="conductance", state_range=(low, high), response=_poly((low, high - low)), write=write, read=read,
        time_data=False, **fields,
    )  # fmt: skip


def _spread(model: str, size: float, states: Any, low: float, high: float, where: str, reading: bool = False) -> Curve:
    """Spread of a model along the range. Sizes of CrossSim's generic models are shares of the largest conductance."""
    u = (states - low) / (high - low)
    if model == "IdealDevice" or (model.startswith("Normal") and size == 0):
        return Curve()
    if model == "NormalIndependentDevice":
        return _poly((float(size) * high,))
    if model == "NormalProportionalDevice":
        return _table(u, float(size) * states)
    if model == "SONOS":
        amplitude, scale = (12.58037, 215.36557) if reading else (19.88665, 176.3115)
        return _table(u, amplitude * -np.expm1(-states / scale))
    known = "IdealDevice, NormalIndependentDevice, NormalProportionalDevice, SONOS"
    more = "" if reading else ", " + ", ".join(sorted(_CROSSSIM))
    raise DeviceError(f"CrossSim parameters: {where}: model {model!r} cannot be imported; there are {known}{more}")


_REQUIRED: Final = object()


def _entry(params: Any, key: str, default: Any = _REQUIRED) -> Any:
    found = params.get(key, default) if isinstance(params, Mapping) else getattr(params, key, default)
    if found is _REQUIRED:
        raise DeviceError(f"CrossSim parameters: {key!r} is missing")
    return found
