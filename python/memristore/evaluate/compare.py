"""One network, every way to keep it: analog recipes beside all digital baselines on the same cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from memristore import rng
from memristore.devices import Device
from memristore.errors import SpecError
from memristore.evaluate.comparison import Comparison
from memristore.evaluate.monte_carlo import evaluate
from memristore.evaluate.result import Evaluation
from memristore.evaluate.schemes import Scheme, analog_schemes, digital_best, digital_schemes
from memristore.evaluate.sdr import Sdr
from memristore.storage import PreparedModel, prepare
from memristore.units import Time, format_time, parse_time

if TYPE_CHECKING:
    from torch import nn

    from memristore.torch_io import StateDict


def compare(
    model: nn.Module | StateDict,
    *,
    device: Device | str = "pcm-ibm-90nm",
    retention: Time = "10 years",
    analog: Sequence[Scheme] | None = None,
    digital: Sequence[Scheme] | None = None,
    metric: Callable[[Any], float] | None = None,
    clean: float | None = None,
    trials: int = 5,
    seed: int = 0,
    title: str = "",
    progress: bool = True,
    report: Callable[[str], None] = lambda line: None,
    threads: int = 0,
) -> Comparison:
    """Judge analog recipes and digital baselines of one network after the retention time, and after ten times as long.

    The second time shows what follows the end of the guarantee: digital storage falls off a cliff, analog storage
    slides down a slope.

    Parameters
    ----------
    model : Module or state_dict
        What is stored. It is not changed.
    device : Device or str
    retention : time
        All bit codes, windows and thresholds are sized for it.
    analog : sequence of Scheme, optional
        Analog recipes; by default from naive to protected (`analog_schemes`). Each brings a digital rival of its own
        distortion (`digital_best`).
    digital : sequence of Scheme, optional
        Number formats; by default all of `digital_schemes`.
    metric : callable, optional
        Given the network as read; by default the signal-to-distortion ratio of its weights, dB.
    clean : float, optional
        Metric to compare with; default that of `model`.
    trials : int
        Independently programmed arrays.
    seed : int
        Names the arrays.
    title : str
        Heading.
    progress : bool
        Show bars on standard error if that is a terminal.
    report : callable
        Is told, line by line, what is being done.
    threads : int
        Threads for the kernels; 0 means all.

    Returns
    -------
    Comparison

    Raises
    ------
    SpecError
        If there is nothing to compare.
    """
    seconds = parse_time(retention)
    times = [seconds, 10 * seconds]
    judge = Sdr(model) if metric is None else metric
    analog = analog_schemes(device, retention) if analog is None else analog
    digital = digital_schemes(device, retention) if digital is None else digital
    if not analog and not digital:
        raise SpecError("compare: there is nothing to compare; give analog or digital schemes")
    rows: list[Evaluation] = []

    def judged(scheme: Scheme, prepared: PreparedModel | None = None) -> Evaluation:
        report(f"{scheme.name}: storing and reading {trials} times")
        prepared = prepare(model, scheme.spec, threads=threads) if prepared is None else prepared
        stored = prepared.program(seed=rng.key(seed, "compare", scheme.name), trace=False, threads=threads)
        return evaluate(
            stored, model, judge, at=times, trials=trials, scheme=scheme.name, clean=clean, prepared=prepared,
            progress=progress, threads=threads,
        )  # fmt: skip

    for scheme in analog:
        prepared = prepare(model, scheme.spec, threads=threads)
        rows.append(judged(scheme, prepared))
        (rival,) = digital_best(scheme, prepared, seconds, seed=seed)
        rows.append(judged(Scheme(name=f"{rival.name} at the SDR of '{scheme.name}'", spec=rival.spec)))
    rows.extend(judged(scheme) for scheme in digital)
    heading = title or f"stored for {format_time(seconds)} on {device if isinstance(device, str) else device.name}"
    return Comparison(rows, f"{heading}, {trials} trial{'s' if trials > 1 else ''}")
