"""The torch surrogate against the compiled path: what levels come back as, and what a network scores.

Levels: n = 500,000 values on each of three levels, once through each path. The mean's difference has a standard error
of 0.2 % of the level's spread, that of the variance of 0.28 % for normal errors; both are to lie within 1 % (5 and 3.5
sigma: a false alarm in 2000 comparisons, of which there are 30; seeds are fixed). Where errors have heavy tails (the
lowest level: few cells stand out from those clipped at zero, kurtosis 40) the variance is held to 4 standard errors,
from the kurtosis seen. A noise source that is left out or doubled shifts variances by several per cent.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.func import functional_call

import memristore as ms
from memristore.evaluate import tasks
from memristore.train import channel
from memristore.units import parse_time

N, LEVELS = 500_000, np.array([-0.8, 0.05, 1.0], dtype=np.float32)


def error_of_ratio(values: np.ndarray) -> float:
    """Standard error of the ratio of the variances of two samples like this one."""
    kurtosis = float(np.mean((values - values.mean()) ** 4) / values.var() ** 2)
    return float(np.sqrt(2 * (kurtosis - 1) / values.size))


def both(values: torch.Tensor, spec: ms.StorageSpec, at: str) -> tuple[np.ndarray, np.ndarray]:
    cells = ms.store({"w": values}, spec, seed=11, trace=False).load(at=at)["w"]
    torch_ = channel(spec, at=at, seed=12)({"w": values})["w"]
    return cells.numpy().astype(np.float64), torch_.numpy().astype(np.float64)


@pytest.mark.parametrize(
    ("device", "at"),
    [
        ("pcm-ibm-90nm", "1 second"),
        ("pcm-ibm-90nm", "1 day"),
        ("pcm-ibm-90nm", "1 year"),
        ("pcm-partial-reset", "1 day"),
        ("awgn/12", "1 day"),
    ],
)
def test_levels_come_back_alike(device: str, at: str) -> None:
    # Ages as told by reference cells are common to an array; without them both decoders believe in fresh cells.
    spec = ms.StorageSpec(device=device, retention=at, compensation=None)
    values = torch.from_numpy(np.tile(LEVELS, N))
    compiled, drawn = both(values, spec, at)
    for level in range(LEVELS.size):
        a, b = compiled[level :: LEVELS.size], drawn[level :: LEVELS.size]
        assert abs(a.mean() - b.mean()) < 0.01 * a.std(), LEVELS[level]
        assert abs(b.var() / a.var() - 1) < max(0.01, 4 * error_of_ratio(a)), LEVELS[level]


SHAPED = {
    "sign, range, curves": {"protect": (ms.Sign(), ms.AdaptiveRange()), "mapper": ms.Companded(at="1 year")},
    "repetition of pairs": {"mapper": ms.Differential(), "code": ms.Repetition(planes=2)},
    "residual": {"protect": (ms.Sign(),), "code": ms.Residual(planes=3)},
    "residual, each plane": {"code": ms.Residual(planes=2, alone=1), "decoder": "inverse", "device": "awgn/12"},
    "verify after a second": {
        "protect": (ms.Sign(),),
        "write": ms.ProgramAndVerify(delay="1 second"),
        "levels": ms.Levels(count=2),
    },
    "sparse": {"compress": (ms.Prune(sparsity=0.5),), "protect": (ms.Sparsity(when="always"), ms.Sign())},
    "faults": {
        "device": ms.devices.get("pcm-ibm-90nm").replace(stuck_low=0.02, stuck_high=0.01),
        "levels": ms.Levels(count=2),
    },
}


@pytest.mark.parametrize("case", SHAPED)
def test_recipes_come_back_alike(case: str) -> None:
    """n = 100,000 Gaussian values after a year, errors by value, four equal parts.

    Means within 4 % of the spread (standard error 0.9 %), variances within 1.5 % and 4 standard errors (from the
    kurtosis; 1.3 % for normal errors): a false alarm in 10^4 comparisons. 65,536 reference cells leave a step of the
    believed age open, which is up to 1.3 % of a spread.
    """
    spec = ms.StorageSpec(**{"retention": "1 year", "compensation": ms.ReferenceCells(count=65536), **SHAPED[case]})
    values = torch.randn(100_000, generator=torch.Generator().manual_seed(3))
    compiled, drawn = both(values, spec, "1 year")
    order = np.argsort(values.numpy())
    errors = [(x - values.numpy())[order].reshape(4, -1) for x in (compiled, drawn)]
    for a, b in zip(*errors, strict=True):
        assert abs(a.mean() - b.mean()) < 0.04 * a.std()
        assert abs(b.var() / a.var() - 1) < 0.015 + 4 * error_of_ratio(a)


def test_believed_ages_are_those_of_reference_cells() -> None:
    """Ages of surrogate draws and 24 arrays, in octaves: means within 5 standard errors, spreads within a factor 2."""
    spec = ms.StorageSpec(retention="1 year")
    stored = [ms.store({"w": torch.ones(2)}, spec, seed=s).read(at="1 day") for s in range(24)]
    ages = np.log2([r.report.believed_seconds for r in stored])
    found = []
    for seed in range(7):
        drawn = channel(spec, at="1 day", seed=seed)
        drawn({"w": torch.ones(2)})
        found += [c.at for c in drawn._wiring.plan.believed]
    seen = np.log2(found)
    assert seen.size > 20
    assert abs(seen.mean() - ages.mean()) < 5 * np.hypot(seen.std(), ages.std()) / np.sqrt(24)
    assert 0.5 < seen.std() / ages.std() < 2
    assert abs(2 ** ages.mean() / parse_time("1 day") - 1) < 0.5


def test_a_network_scores_alike(tmp_path) -> None:
    """Digits, LeNet-5, one cell per weight after a year: mean accuracy of 12 arrays each way, within 4 sigma.

    A false alarm in 16,000 runs; with the spread of 2 to 5 points between arrays a difference of 8 points is seen.
    """
    data = tasks.get("digits").load(progress=False)
    spec = ms.StorageSpec(retention="1 year", decoder="inverse")
    prepared = ms.prepare(data.model, spec)
    drawn = channel(spec, seed=5, refresh=8)
    scores: tuple[list[float], list[float]] = ([], [])
    with torch.inference_mode():
        for trial in range(12):
            compiled = prepared.program(seed=trial, trace=False).load(at="1 year", event=trial)
            for weights, into in ((compiled, scores[0]), (drawn(data.model), scores[1])):
                right = functional_call(data.model, weights, data.test.images).argmax(1) == data.test.labels
                into.append(float(right.float().mean()))
    a, b = np.array(scores)
    sigma = float(np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 12))
    assert sigma > 0
    assert abs(a.mean() - b.mean()) < 4 * sigma
    assert sigma < 0.02
