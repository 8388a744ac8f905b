"""Which tensor costs the accuracy: errors of one tensor, or layer, at a time."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from memristore.config import check_number
from memristore.errors import SpecError
from memristore.evaluate.arrays import Arrays
from memristore.evaluate.monte_carlo import metric_of
from memristore.evaluate.probe import Judge, Probe
from memristore.evaluate.result import EXACT, Metric
from memristore.units import Time, format_time, parse_time

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

    from memristore.spec import StorageSpec
    from memristore.stored import StoredModel
    from memristore.torch_io import StateDict

SCHEMA: Final = "memristore.attribution"
VERSION: Final = 1
#: How tensors may be grouped.
GROUPS: Final = ("tensor", "layer")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What the errors of one group of tensors cost, alone.

    Parameters
    ----------
    name : str
        The tensor, or the module that owns the tensors (``"all"`` for all of them together).
    weights : int
        Elements that were read with errors or could have been.
    sdr_db : float
        Variance of the values over their mean squared error, dB, over the trials; 200 at most.
    lost : tuple of float
        Of each trial: by how much the metric is worse than without noise, in its units.
    kl : tuple of float
        Of each trial: divergence from the clean answers, nats; empty if the metric does not measure it.
    """

    name: str
    weights: int
    sdr_db: float
    lost: tuple[float, ...]
    kl: tuple[float, ...] = ()

    @property
    def cost(self) -> float:
        """What groups are ordered by: mean divergence where it is measured, else mean loss of the metric."""
        return mean_ci(self.kl or self.lost)[0]


def mean_ci(values: tuple[float, ...]) -> tuple[float, float | None]:
    """Mean, and half width of its 95 % confidence interval by Student's t; None for one value."""
    from scipy.stats import t

    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    return mean, float(t.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """Costs of all groups, dearest first.

    Parameters
    ----------
    scheme : str
    metric : Metric
    at_seconds : float
    compressed : float
        Metric without noise.
    together : Cost
        All groups at once. Costs do not add up: errors of layers meet in the same answers.
    costs : tuple of Cost
        Of each group that came back with errors in some trial.
    exact : int
        Groups that came back without any.
    """

    scheme: str
    metric: Metric
    at_seconds: float
    compressed: float
    together: Cost
    costs: tuple[Cost, ...]
    exact: int = 0

    def table(self, most: int = 20) -> Table:
        """One line per group, the `most` dearest ones."""
        from rich.table import Table

        scale, unit = self.metric.scale, "points" if self.metric.unit == "fraction" else self.metric.unit
        without = f"without noise {self.metric.label} {self.metric.text(self.compressed)}"
        table = Table(title=f"{self.scheme}: errors after {format_time(self.at_seconds)}, one group at a time")
        for heading in ("tensor or layer", "weights", "SDR, dB", "KL, nats", f"{self.metric.name} lost, {unit}"):
            table.add_column(heading, justify="left" if heading.startswith("tensor") else "right", no_wrap=True)
        for cost in (*self.costs[:most], self.together):
            (kl, kl_ci), (lost, lost_ci) = mean_ci(cost.kl or (0.0,)), mean_ci(cost.lost)
            table.add_row(
                cost.name,
                f"{cost.weights:,}",
                f"{cost.sdr_db:.1f}",
                "" if not cost.kl else f"{kl:.3g}" + ("" if kl_ci is None else f" ± {kl_ci:.2g}"),
                f"{scale * lost:.3g}" + ("" if lost_ci is None else f" ± {scale * lost_ci:.2g}"),
            )
        left = len(self.costs) - most
        table.caption = "; ".join(
            [without]
            + ([f"{left} cheaper ones not shown"] if left > 0 else [])
            + ([f"{self.exact} came back exactly"] if self.exact else [])
        )
        return table

    def plot(self, path: str | os.PathLike[str] | None = None, most: int = 30) -> Figure:
        """Draw the costs of the dearest groups as bars, and save the picture to `path` if given."""
        from memristore.evaluate import plots
        from memristore.evaluate.attribution_plot import bars

        figure = bars(self, most)
        if path is not None:
            plots.save(figure, path)
        return figure

    def to_dict(self) -> dict[str, Any]:
        """Plain values: the document that `to_json` writes."""
        document: dict[str, Any] = {"schema": SCHEMA, "version": VERSION, "scheme": self.scheme}
        document |= {"metric": vars(self.metric).copy(), "at_seconds": self.at_seconds, "compressed": self.compressed}
        document |= {"exact": self.exact, "together": _plain(self.together)}
        return document | {"costs": [_plain(cost) for cost in self.costs]}

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the result as JSON, and write it to `path` if given."""
        text = json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text


def _plain(cost: Cost) -> dict[str, Any]:
    return vars(cost) | {"lost": list(cost.lost), "kl": list(cost.kl)}


def attribute(
    stored: StoredModel | StorageSpec,
    model: nn.Module | StateDict,
    metric: Callable[[Any], float],
    at: Time = "1 year",
    trials: int = 3,
    *,
    by: str = "tensor",
    scheme: str = "stored",
    seed: int = 0,
    progress: bool = True,
    threads: int = 0,
) -> Attribution:
    """Say which tensors' errors cost the accuracy.

    In each trial an array is programmed and read as `evaluate` does; then the metric judges the network without noise
    in which the tensors of one group alone are replaced by what was read, group after group: (groups + 1) * trials
    judgements in all.

    Parameters
    ----------
    stored, model, metric, seed, threads
        As of `memristore.evaluate`.
    at : time
        Read time: seconds or for example ``"1 year"``.
    trials : int
        Independently programmed arrays.
    by : {"tensor", "layer"}
        Group tensors by themselves, or with all others of the same module.
    scheme : str
        Name for tables and pictures.
    progress : bool
        Show a bar on standard error if that is a terminal.

    Returns
    -------
    Attribution

    Raises
    ------
    SpecError
        If an argument is not valid, or the metric returns something else than a finite number.
    TensorError
        If the stored tensors do not fit `model`.
    """
    check_number("attribute", "trials", trials, 1, 10**6, integer=True)
    if by not in GROUPS:
        raise SpecError(f"attribute: by must be one of {', '.join(GROUPS)}, not {by!r}")
    seconds = parse_time(at)
    about = metric_of(metric, None)
    judge, probe = Judge(metric, model), Probe(model)
    arrays = Arrays(stored, model, None, seed, False, threads)
    clean = arrays.clean()
    if trials > 1:
        arrays.check()
    groups = _groups(clean, by)
    found: dict[str, list[tuple[float, dict[str, float], float]]] = {name: [] for name in (*groups, "")}
    probe.load(clean)
    compressed, _ = judge(probe.subject, "for the compressed network")
    with tqdm(total=trials * len(found), desc=scheme, leave=False, disable=None if progress else True) as bar:
        for trial in range(trials):
            read = arrays.read(trial, seconds, trial, last=True).state_dict
            for name, members in {**groups, "": list(clean)}.items():
                noisy = [m for m in members if not torch.equal(read[m], clean[m])]
                if noisy:
                    probe.load({**clean, **{m: read[m] for m in noisy}})
                    value, also = judge(probe.subject, f"in trial {trial} with errors in {name or 'all tensors'}")
                    found[name].append((value, also, _squares(clean, read, members)))
                else:
                    found[name].append((compressed, {}, 0.0))
                bar.update()
    costs = {n: _cost(n, members, clean, found[n], compressed, about) for n, members in groups.items()}
    noisy_groups = [cost for cost in costs.values() if cost.sdr_db < EXACT]
    return Attribution(
        scheme=scheme,
        metric=about,
        at_seconds=seconds,
        compressed=compressed,
        together=_cost("all", list(clean), clean, found[""], compressed, about),
        costs=tuple(sorted(noisy_groups, key=lambda cost: -cost.cost)),
        exact=len(costs) - len(noisy_groups),
    )


def _groups(state: Mapping[str, torch.Tensor], by: str) -> dict[str, list[str]]:
    """Names of the tensors of each group; tensors that share memory are one group, by the first name."""
    out: dict[str, list[str]] = {}
    known: dict[tuple[int, tuple[int, ...]], str] = {}
    for name, tensor in state.items():
        group = name if by == "tensor" else name.rpartition(".")[0] or name
        if tensor.numel():
            group = known.setdefault((tensor.data_ptr(), tuple(tensor.shape)), group)
        out.setdefault(group, []).append(name)
    return out


def _squares(clean: Mapping[str, torch.Tensor], read: Mapping[str, torch.Tensor], members: list[str]) -> float:
    floating = [m for m in members if clean[m].is_floating_point()]
    return sum(float((clean[m].double() - read[m].double()).square().sum()) for m in floating)


def _cost(
    name: str, members: list[str], clean: Mapping[str, torch.Tensor],
    found: list[tuple[float, dict[str, float], float]], compressed: float, about: Metric,
) -> Cost:  # fmt: skip
    sign = 1.0 if about.higher_is_better else -1.0
    floating = [clean[m].double() for m in members if clean[m].is_floating_point() and clean[m].numel()]
    power = sum(float((t - t.mean()).square().sum()) for t in floating)
    # A single value has no variance; its own square says how large an error is.
    power = power or sum(float(t.square().sum()) for t in floating)
    errors = sum(squares for _, _, squares in found) / len(found)
    measured = any("kl" in also for _, also, _ in found)
    return Cost(
        name=name,
        weights=sum(clean[m].numel() for m in members),
        sdr_db=EXACT if errors <= power * 1e-20 else 10 * math.log10(max(power, 1e-300) / errors),
        lost=tuple(sign * (compressed - value) for value, _, _ in found),
        kl=tuple(also.get("kl", 0.0) for _, also, _ in found) if measured else (),
    )
