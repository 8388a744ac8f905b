"""The cheapest recipe for a network: compression, protection, code and allocation searched together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from torch import nn

from memristore.allocate import sensitivity as sensitivities
from memristore.config import check_number
from memristore.devices import Device
from memristore.errors import SpecError
from memristore.evaluate.comparison import Comparison
from memristore.evaluate.fit_calibrate import Calibration
from memristore.evaluate.fit_finetune import Finetune
from memristore.evaluate.fit_hunt import Hunt
from memristore.evaluate.fit_result import FitResult, limit_cells
from memristore.evaluate.fit_search import Divergence, Search, inputs_of
from memristore.evaluate.sdr import Sdr
from memristore.spec import StorageSpec
from memristore.units import Time, format_time, parse_time

if TYPE_CHECKING:
    import torch

    from memristore.torch_io import StateDict

#: Batches that sensitivities are measured on, and draws of each.
_DRAWS: Final = 2


def fit(
    model: nn.Module | StateDict,
    device: Device | str = "pcm-ibm-90nm",
    metric: Callable[[Any], float] | None = None,
    retention: Time = "10 years",
    *,
    max_drop: float | None = None,
    budget: float | None = None,
    batches: Iterable[Any] | None = None,
    quick: Callable[[Any], float] | None = None,
    holdout: Callable[[Any], float] | None = None,
    trials: int = 5,
    baselines: bool = True,
    finetune: Finetune | None = None,
    seed: int = 0,
    title: str = "",
    progress: bool = True,
    report: Callable[[str], None] = lambda line: None,
    threads: int = 0,
) -> FitResult:
    """Find the recipe with the fewest cells that keeps a network good enough, or the best one for a number of cells.

    Compression, protection, code and allocation are searched together. Digital recipes (trellis-coded quantisation
    with the distortion spread over tensors in several ways, also after pruning, on the densest cells) are compared by a
    predicted loss at equal cells, then placed by the metric; analog ones (sign protection, adaptive range, repetition
    and residual codes, planes per layer or by sensitivity) that could take fewer cells are placed by Monte Carlo on
    the same arrays. The network is not retrained, unless `finetune` says with what: then its weights learn to lie on
    ever coarser grids until the bound is reached.

    Parameters
    ----------
    model : Module or state_dict
        Not changed.
    device : Device or str
    metric : callable
        ``metric(model) -> float``; must say the same of the same weights. By default the signal-to-distortion ratio of
        the weights, dB, of which an exact copy has 200.
    retention : time
        The recipe is sized for it, and judged then.
    max_drop : float, optional
        Bound: by how much the mean of the metric over arrays may be worse than the network's, in units of the metric
        (0.005 is half a point of accuracy).
    budget : float, optional
        Bound: cells per weight. Either this or `max_drop`.
    batches : iterable, optional
        Inputs (or tuples that start with them) for sensitivities and the predicted loss; better not those that the
        metric judges by. The network must return scores before a softmax. Without them distortion is spread by equal
        ratio and equal error only.
    quick : callable, optional
        A cheaper metric, for example on a part of the test set, for all but the last steps. One that tells larger
        losses than `metric` should say so with an attribute ``stricter = True``: analog recipes are then placed by
        `metric` alone, lest they be left out for nothing.
    holdout : callable, optional
        The metric on data that neither `metric` nor `quick` looks at. The result is judged by it once, in the end.
    trials : int
        Independently programmed arrays for the final judgement.
    baselines : bool
        Judge all digital number formats for the front.
    finetune : Finetune, optional
        What the network may be trained with after the search, and how long; needs `batches`.
    seed : int
        Names the arrays.
    title : str
        Heading of the front.
    progress : bool
        Show bars on standard error if that is a terminal.
    report : callable
        Is told, line by line, what was found.
    threads : int
        Threads for the kernels; 0 means all.

    Returns
    -------
    FitResult

    Raises
    ------
    SpecError
        If an argument is not valid, or if no recipe meets the bound: the message names the closest.

    Notes
    -----
    The recipe is chosen on the data that the metric judges by. With few images the loss on new ones may be larger:
    the confidence interval covers programming and reading only. `holdout` tells how much larger.
    """
    began = time.monotonic()
    if (max_drop is None) == (budget is None):
        raise SpecError("fit: give max_drop (the metric that may be lost) or budget (cells per weight), one of them")
    check_number("fit", "max_drop", 0.0 if max_drop is None else max_drop, 0, 1e300)
    check_number("fit", "budget", 1.0 if budget is None else budget, 0, 1e6, open_low=True)
    check_number("fit", "trials", trials, 1, 10**6, integer=True)
    if finetune is not None:
        finetune.check(model, batches)
    base = StorageSpec(device=device, retention=retention)
    inputs = None if batches is None else inputs_of(batches)
    divergence, weights, calibration = _prediction(model, inputs, seed, progress)
    search = Search(
        model, Sdr(model) if metric is None else metric, quick, divergence=divergence,
        calibration=calibration, at=parse_time(retention), trials=trials, seed=seed, progress=progress, report=report,
        threads=threads,
    )  # fmt: skip
    hunt = Hunt(search, base, weights, max_drop, budget)
    best = hunt.run()
    if finetune is not None:
        best = hunt.finetuned(best, finetune)
    best, rows = hunt.rows(best)
    found = search.judge(best, full=True)
    if baselines:
        rows += hunt.baselines()
    heading = title or f"{base.cell.name}, {format_time(search.at)}"
    return FitResult(
        spec=best.spec,
        network=best.network,
        evaluation=found,
        holdout=None if holdout is None else search.afresh(best, holdout),
        front=Comparison(rows, heading),
        max_drop=max_drop,
        budget=budget,
        limit_cells=limit_cells(best.prepared, best.network, search.at, seed=search.seed, threads=threads),
        left_out=tuple(hunt.left_out.items()),
        seconds=time.monotonic() - began,
    )


def _prediction(
    model: nn.Module | StateDict, inputs: list[torch.Tensor] | None, seed: int, progress: bool
) -> tuple[Divergence | None, dict[str, float] | None, Calibration | None]:
    """Predicted loss, sensitivities and calibration, where there are data and a network that takes them."""
    if inputs is None:
        return None, None, None
    if not isinstance(model, nn.Module):
        raise SpecError("fit: batches need a network that takes them, not a state_dict; leave them out or give it")
    found = sensitivities.kl(model, inputs, draws=_DRAWS, seed=seed, progress=progress)
    inputs = list(inputs[0].split(-(-len(inputs[0]) // 2))) if len(inputs) == 1 < len(inputs[0]) else inputs
    # Calibrated on the first batch, judged on the others: else the loss would be predicted too small.
    calibration = Calibration(model, inputs[:1])
    return Divergence(model, inputs[1:] or inputs), dict(sensitivities.per_tensor(found)), calibration or None
