"""Writing until a read is near: against a plain numpy model of the loop, and against the best of n draws.

A table computed for the best of 2, 4, 8, 16 independent draws (Gaussian source, signs protected, partial-reset cells)
says 16.9, 20.8, 25.2, 29.6 dB without read noise. A cell's earlier writes are gone, so the loop that keeps the last one
stays below from 4 writes on: by 1.5, 2.8, 3.5 dB, with 1.9, 3.1, 5.2 writes on the mean. With a share of 0.1 or 0.3 of
the variance at read time the table is met. n = 100,000: standard error of an SDR 0.03 dB; margins 0.3 dB. A tabulated
spread of rare large errors comes from 4096 cells: 4 % standard error.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import memristore as ms
from memristore.array import channel, write_cells

PARTIAL = ms.devices.get("pcm-partial-reset")


@pytest.mark.parametrize(
    ("share", "found"),
    [(0.0, {2: 16.9, 4: 19.3, 8: 22.4, 16: 26.1}), (0.1, {2: 15.9, 8: 18.8}), (0.3, {4: 15.4, 16: 15.7})],
)
def test_against_the_table(share, found):
    values = torch.from_numpy(np.random.default_rng(3).standard_normal(100_000).astype(np.float32))
    device = PARTIAL.with_read_share(share) if share else PARTIAL
    for writes, wanted in found.items():
        spec = ms.StorageSpec(
            device=device, retention=0, protect=(ms.Sign(),), write=ms.BestOf(writes=writes), levels=ms.Levels(count=2)
        )
        made = ms.store({"w": values}, spec, seed=1, trace=False)
        wrong = (made.load(at=0)["w"] - values).double().square().mean()
        assert 10 * torch.log10(values.double().var() / wrong) > wanted - 0.3


def test_the_loop_in_numpy():
    """Spread left on cells with normal noise of spread 1, by a loop of its own: 40,000 cells, margin 2 %."""
    rng, n = np.random.default_rng(0), 40_000
    device = ms.devices.get("awgn/20")
    for writes in (1, 2, 4, 16):
        how = ms.BestOf(writes=writes)
        left, count, kept = np.ones(n, bool), np.zeros(n), np.zeros(n)
        for threshold in how.thresholds():
            z = rng.standard_normal(n)
            kept = np.where(left, z, kept)
            count += left
            left &= np.abs(z) > threshold
        done = write_cells(device, how, 7, 0, np.full(n, 0.5, np.float32))
        spread = float(device.write(np.array([0.5]))[0])
        assert (done.state.std() / spread) == pytest.approx(kept.std(), rel=0.02)
        assert done.pulses.mean() == pytest.approx(count.mean(), rel=0.02)
        assert done.failed.mean() == pytest.approx(left.mean(), abs=0.01)
        assert channel(device, how, 0.0).at_targets(0.5)[1] / spread == pytest.approx(kept.std(), rel=0.12)


def test_thresholds_are_the_best_rule():
    """Neither wider nor narrower thresholds leave less, 400,000 draws: standard error 0.3 %."""
    rng = np.random.default_rng(1)
    best = ms.BestOf(writes=6).thresholds()

    def left(scale):
        kept = rng.standard_normal(400_000)
        for threshold in best[:-1]:
            kept = np.where(np.abs(kept) > threshold * scale, rng.standard_normal(kept.size), kept)
        return np.square(kept).mean()

    assert left(1.0) < min(left(0.75), left(1.35)) * 0.99


def test_writes_are_counted_and_reproducible(tmp_path):
    net = {"w": torch.randn(3000, generator=torch.Generator().manual_seed(0))}
    spec = ms.StorageSpec(device="pcm-ibm-90nm", write=ms.BestOf(writes=3), code=ms.Residual(planes=2, alone=1))
    made = ms.store(net, spec, seed=2)
    assert torch.equal(ms.store(net, spec, seed=2, threads=2).load(threads=2)["w"], made.load(threads=1)["w"])
    (cells,) = made.cells("w").values()
    assert set(np.unique(cells.pulses)) == {1, 2, 3}
    assert made.streams["w"].pulses_total == cells.pulses.sum()
    assert np.all(cells.pulses[cells.failed == 1] == 3)
    assert ms.StorageSpec.from_dict(spec.to_dict()) == spec
    made.save(tmp_path / "w.cells")
    assert torch.equal(ms.StoredModel.open(tmp_path / "w.cells").load()["w"], made.load()["w"])
    # One write is a one-shot write, bit for bit.
    x = np.linspace(0, 1, 500, dtype=np.float32)
    once, plain = (write_cells(PARTIAL, how, 5, 64, x).state for how in (ms.BestOf(writes=1), ms.OneShot()))
    assert np.array_equal(once, plain)
    # A cell's life does not depend on which cells are written with it.
    some = write_cells(PARTIAL, ms.BestOf(writes=5), 5, 64 + 128, x[128:]).state
    assert np.array_equal(some, write_cells(PARTIAL, ms.BestOf(writes=5), 5, 64, x).state[128:])
    stuck = write_cells(PARTIAL.replace(stuck_low=1.0), ms.BestOf(writes=4), 1, 0, np.full(50, 0.9, np.float32))
    assert stuck.failed.all()
    assert (stuck.pulses == 4).all()
    for bad in (0, 257, 2.5, True):
        with pytest.raises(ms.SpecError, match="writes"):
            ms.BestOf(writes=bad)
