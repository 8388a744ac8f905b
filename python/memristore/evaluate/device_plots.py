"""Pictures of a device that was made of measurements: the fit beside what was measured."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from memristore.devices.measurements import MeasuredDevice
from memristore.evaluate.plots import _style

#: Reads drawn at most, evenly chosen.
_DOTS = 20_000


def measured(fit: MeasuredDevice) -> Figure:
    """Draw reads and fitted means, spreads by level, the shape of the noise, and what time does.

    Parameters
    ----------
    fit : MeasuredDevice

    Returns
    -------
    Figure
        Three panels; four where times are given.
    """
    count = 3 if fit.aged is None else 4
    figure = Figure(figsize=(3.8 * count, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, count, squeeze=False)[0]
    _reads(panels[0], fit)
    _spreads(panels[1], fit)
    _shape(panels[2], fit)
    if fit.aged is not None:
        _time(panels[3], fit)
    figure.suptitle(f"{fit.device.name}: {fit.measurements.source}", fontsize=10)
    return figure


def _reads(axes: Axes, fit: MeasuredDevice) -> None:
    data, levels = fit.measurements, fit.levels
    some = slice(None, None, max(1, data.state.size // _DOTS))
    axes.plot(
        data.parameter[some],
        data.state[some],
        ".",
        color="0.6",
        markersize=2,
        label="reads" if data.time is None else "reads, all times",
    )
    total = np.hypot(levels.within, levels.between)
    axes.plot(levels.parameter, levels.mean, label="mean", color=_style(1)["color"])
    axes.fill_between(
        levels.parameter, levels.mean - 2 * total, levels.mean + 2 * total, alpha=0.25, color=_style(1)["color"],
        label="two spreads",
    )  # fmt: skip
    low, high = fit.to_dict()["branch"]
    axes.axvspan(low, high, color="0.93", zorder=-1, label="monotone")
    axes.set_xlabel(data.columns["write"])
    axes.set_ylabel(f"state, {fit.device.unit}")
    axes.set_title("reads and fit", fontsize=10)
    axes.legend(fontsize=8)


def _spreads(axes: Axes, fit: MeasuredDevice) -> None:
    levels = fit.levels
    axes.plot(levels.parameter, levels.within, label="single writes", markersize=3, **_style(0))
    if levels.between.any():
        axes.plot(levels.parameter, levels.between, label="between cells", markersize=3, **_style(1))
    if levels.read.any():
        axes.plot(levels.parameter, levels.read, label="single reads", markersize=3, **_style(2))
    axes.set_ylim(bottom=0)
    axes.set_xlabel(fit.measurements.columns["write"])
    axes.set_ylabel(f"spread, {fit.device.unit}")
    axes.set_title("spread by level", fontsize=10)
    axes.legend(fontsize=8)


def _shape(axes: Axes, fit: MeasuredDevice) -> None:
    """Quantiles of all reads about their level's mean, in spreads, against those of the normal law."""
    from scipy.special import ndtri

    data, levels = fit.measurements, fit.levels
    first = np.ones(data.state.size, np.bool_) if data.time is None else data.time == data.time.min()
    place = np.abs(data.parameter[first][:, None] - levels.parameter).argmin(axis=1)
    total = np.maximum(np.sqrt(levels.within**2 + levels.between**2 + levels.read**2), 1e-30)
    mean = np.array([data.state[first][place == k].mean() if np.any(place == k) else 0.0 for k in range(total.size)])
    z = np.sort((data.state[first] - mean[place]) / total[place])
    normal = ndtri((np.arange(z.size) + 0.5) / z.size)
    some = np.unique(np.linspace(0, z.size - 1, min(z.size, 2000)).astype(int))
    axes.plot([-4.5, 4.5], [-4.5, 4.5], color="0.6", linewidth=1)
    axes.plot(normal[some], np.clip(z[some], -8, 8), ".", markersize=3, color=_style(0)["color"])
    axes.set_xlabel("normal quantile")
    axes.set_ylabel("read about its level's mean, spreads")
    axes.set_title("shape of the noise (a line is normal)", fontsize=10)


def _time(axes: Axes, fit: MeasuredDevice) -> None:
    data, levels = fit.measurements, fit.levels
    if data.time is None:
        return
    chosen = np.unique(np.linspace(0, levels.parameter.size - 1, 6).round().astype(int))
    place = np.abs(data.parameter[:, None] - levels.parameter).argmin(axis=1)
    times = np.unique(data.time[data.time > 0])
    from memristore.devices.moments import one_shot

    low, span = levels.parameter[0], levels.parameter[-1] - levels.parameter[0]
    for index, level in enumerate(chosen):
        style = _style(index)
        means = [data.state[(place == level) & (data.time == t)] for t in times]
        seen = [(t, m.mean()) for t, m in zip(times, means, strict=True) if m.size]
        x = (levels.parameter[level] - low) / span
        model = [float(one_shot(fit.device, float(t)).at_targets(x)[0]) for t in times]
        axes.plot([t for t, _ in seen], [m for _, m in seen], linestyle="none", markersize=4, **style)
        axes.plot(times, model, color=style["color"], label=f"{levels.parameter[level]:g}")
    axes.set_xscale("log")
    axes.set_xlabel("seconds since the write")
    axes.set_ylabel(f"mean state, {fit.device.unit}")
    axes.set_title("measured (marks) and model (lines)", fontsize=10)
    axes.legend(fontsize=8, title=data.columns["write"], title_fontsize=8)
