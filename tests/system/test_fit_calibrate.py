"""Batch norm set anew behind the weights as they will be read, alone and within the search."""

from __future__ import annotations

import copy
import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import memristore as ms
from memristore.errors import SpecError
from memristore.evaluate.fit_calibrate import Calibration, folded
from memristore.evaluate.fit_families import gains_of, quantised, tensors_of
from memristore.evaluate.fit_search import Divergence, renewed
from memristore.storage import prepare

DEVICE, YEAR = "pcm-ibm-90nm", "1 year"
BASE = ms.StorageSpec(device=DEVICE, retention=YEAR)


def convolutional() -> nn.Sequential:
    torch.manual_seed(9)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))
    model = model.append(nn.AdaptiveAvgPool2d(1)).append(nn.Flatten())
    for _ in range(20):
        model(2 + torch.randn(32, 3, 8, 8))
    return model.eval()


def test_folded_norms_answer_alike_and_take_no_cells_to_speak_of() -> None:
    model = convolutional()
    images = 2 + torch.randn(16, 3, 8, 8)
    quiet = folded(model)
    with torch.inference_mode():
        assert torch.allclose(quiet(images), model(images), atol=1e-4)
    kept = [ms.store(quiet, replace(BASE, compress=chain), seed=1) for chain in ((), (ms.Constant(),))]
    assert kept[1].ledger().total < kept[0].ledger().total
    for name, tensor in kept[1].load().items():
        if "running" in name or "num" in name:
            assert torch.equal(tensor, quiet.state_dict()[name])


def test_calibration_undoes_scales_and_means_that_errors_moved() -> None:
    """Weights that are all scaled and shifted norms: the regression finds the way back, to float rounding."""
    model = convolutional()
    images = [2 + torch.randn(64, 3, 8, 8)]
    calibration = Calibration(model, images)
    assert calibration
    state = {name: tensor.clone() for name, tensor in calibration.network.state_dict().items()}
    state["0.weight"] *= 1.7
    state["1.bias"] += 3.0
    divergence = Divergence(model, images)
    assert divergence(state) > 1e-2
    assert divergence({**state, **calibration(state)}) < 1e-6
    assert not Calibration(nn.Linear(4, 2), [torch.randn(8, 4)])


@pytest.mark.parametrize("sparsity", [0.0, 0.5])
def test_only_what_changed_is_compressed_again(sparsity: float) -> None:
    model = folded(convolutional())
    tensors = tensors_of(model, BASE)
    spec = quantised(BASE, tensors, gains_of(tensors, None, None), "", sparsity, calibrated=True).spec(12.0)
    state = model.state_dict()
    norms = {name: state[name] + 0.1 * torch.randn_like(state[name]) for name in ("1.weight", "1.bias")}
    changed = copy.deepcopy(model)
    changed.load_state_dict({**state, **norms})
    fresh = prepare(changed, spec)
    again = renewed(prepare(model, spec), norms)
    assert again.entries == fresh.entries
    assert again.codes == fresh.codes
    streams = list(zip(again.payload.bit_streams(), fresh.payload.bit_streams(), strict=True))
    assert all((a.name, a.length) == (b.name, b.length) and np.array_equal(a.data, b.data) for a, b in streams)
    assert not again.payload.analog_streams()


def test_calibrated_network_is_what_the_result_hands_on() -> None:
    model = convolutional()
    images = [2 + torch.randn(64, 3, 8, 8) for _ in range(2)]
    found = ms.fit(model, DEVICE, retention=YEAR, budget=2.5, batches=images, baselines=False, progress=False)
    assert found.cells_per_weight <= 2.5
    again = ms.store(found.network, found.spec, seed=3)
    assert again.cells_per_weight == pytest.approx(found.cells_per_weight, rel=1e-6)
    assert any(row.scheme.startswith("calibrated") for row in found.front)


def test_a_budget_that_norms_alone_exceed_is_met_by_calibration() -> None:
    """Norms that are not calibrated are kept with 35 dB or more; calibrated ones take next to nothing."""
    torch.manual_seed(5)
    model = nn.Sequential(nn.Conv2d(3, 64, 1), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 8, 1)).eval()
    with torch.no_grad():
        for tensor in (model[1].weight, model[1].bias, model[1].running_mean):
            tensor.normal_(1.0, 0.5)
    images = [torch.randn(64, 3, 8, 8)]
    fit = functools.partial(ms.fit, model, DEVICE, retention=YEAR, trials=1, baselines=False, progress=False)
    with pytest.raises(SpecError, match=r"no recipe of those searched takes 2\.5 cells.*the closest, quantised"):
        fit(budget=2.5)
    found = fit(budget=2.5, batches=images)
    assert found.cells_per_weight <= 2.5
    assert found.evaluation.scheme.startswith("calibrated + ")
    assert dict(found.left_out)["quantised, equal SDR"].startswith("takes more")
    with pytest.raises(SpecError, match=r"no recipe of those searched takes 0\.01 cells.*the closest, calibrated"):
        fit(budget=0.01, batches=images)
