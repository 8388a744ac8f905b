"""What Unify promises besides the contracts: one magnitude per block, what is pruned, what is kept, what it costs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from memristore.compress import Unify
from memristore.errors import SpecError
from memristore.streams import AnalogStream, Payload
from memristore.transform import Context

F32 = npt.NDArray[np.float32]
_RNG = np.random.default_rng(9)


def run(part: Unify, **tensors: F32) -> tuple[Payload, dict[str, F32]]:
    context = Context(shapes={n: t.shape for n, t in tensors.items()})
    payload = part.encode(Payload(AnalogStream(n, t.reshape(-1)) for n, t in tensors.items()), context)
    back = part.decode(payload, context)
    return payload, {n: back.analog(n).values.reshape(t.shape) for n, t in tensors.items()}


@pytest.mark.parametrize(("rows", "columns"), [(1, 8), (4, 1), (2, 3), (16, 16)])
def test_blocks_share_their_mean_magnitude(rows: int, columns: int) -> None:
    values = _RNG.normal(size=(10, 7, 3)).astype(np.float32)
    payload, back = run(Unify(rows=rows, columns=columns), w=values)
    matrix, found = values.reshape(10, 21), back["w"].reshape(10, 21)
    blocks = 0
    for i in range(0, 10, rows):
        for j in range(0, 21, columns):
            block, other = matrix[i : i + rows, j : j + columns], found[i : i + rows, j : j + columns]
            np.testing.assert_allclose(other, np.sign(block) * np.abs(block).mean(), rtol=1e-6)
            blocks += 1
    assert len(payload.analog("w/magnitude")) == blocks
    assert [(s.name, len(s), s.kind) for s in payload.bit_streams()] == [("w/signs", 210, "sign")]


def test_the_energy_kept_is_what_theory_says() -> None:
    # n = 1,000,000 in blocks of 1000: 1 - 2/pi of a Gaussian is lost, 1/2 of a Laplacian; standard errors below 0.002.
    for values, lost in (
        (_RNG.normal(size=(1000, 1000)), 1 - 2 / np.pi),
        (_RNG.laplace(size=(1000, 1000)) / np.sqrt(2), 0.5),
    ):
        _, back = run(Unify(columns=1000), w=values.astype(np.float32))
        assert np.square(back["w"] - values).mean() == pytest.approx(lost, abs=0.012)


def test_pruned_and_kept_blocks() -> None:
    tensors = {
        "a": _RNG.normal(size=(40, 16)).astype(np.float32),
        "b": 3 * _RNG.normal(size=(20, 32)).astype(np.float32),
    }
    payload, back = run(Unify(columns=8, prune=0.25, share=0.5), **tensors)
    blocks = {n: t.reshape(-1, 8) for n, t in tensors.items()}
    found = {n: t.reshape(-1, 8) for n, t in back.items()}
    power = np.concatenate([np.square(b).mean(axis=1) for b in blocks.values()])
    after = np.concatenate(list(found.values()))
    before = np.concatenate(list(blocks.values()))
    pruned = ~after.any(axis=1)
    assert pruned.sum() == 40  # of 160 blocks
    assert power[pruned].max() <= power[~pruned].min()
    kept = (after == before).all(axis=1)
    assert kept.sum() == 60  # half of what is left
    loss = np.square(np.abs(before) - np.abs(before).mean(axis=1, keepdims=True)).sum(axis=1)
    unified = ~(pruned | kept)
    assert loss[unified].max() <= loss[kept].min() * (1 + 1e-6)
    assert sum(len(s) for s in payload.analog_streams()) == 60 * 8 + 60
    assert sum(len(s) for s in payload.bit_streams()) == 60 * 8 + 2 * 160
    layers, _ = run(Unify(columns=8, prune=0.25, scope="layer"), **tensors)
    assert [int(layers.bits(f"{n}/pruned").to_bools().sum()) for n in "ab"] == [20, 20]


def test_sensitivity_counts_the_weights_of_a_block() -> None:
    payload, _ = run(Unify(columns=4), w=_RNG.normal(size=(2, 6)).astype(np.float32))
    sensitivity = payload.analog("w/magnitude").sensitivity
    assert sensitivity is not None
    assert sensitivity.tolist() == [4, 2, 4, 2]


def test_bad_settings() -> None:
    for bad in (
        {"columns": 1},
        {"rows": 0},
        {"prune": 1.0},
        {"prune": -0.1},
        {"share": 0.0},
        {"scope": "model"},
        {"columns": 2.0},
    ):
        with pytest.raises(SpecError):
            Unify(**bad)
