"""Programming a prepared network many times, and keeping its cells in less memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import memristore as ms

SPEC = ms.StorageSpec(protect=(ms.Sign(), ms.AdaptiveRange()), code=ms.Residual(planes=2))


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(96, 40), torch.nn.Linear(40, 10))


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[k], b[k]) for k in b)


def test_two_bytes_per_cell_are_enough(tmp_path):
    """Rounding to 1/32768 of the range is below 0.2 % of the write spread: distortion agrees within 0.02 dB."""
    torch.manual_seed(2)
    weights = {"w": torch.randn(50_000)}

    def sdr(made):
        return 10 * torch.log10(weights["w"].var() / (made.load(at="1 year")["w"] - weights["w"]).square().mean())

    four = ms.store(weights, SPEC, seed=1)
    two = ms.store(weights, SPEC, seed=1, cell_bytes=2)
    assert all(s.dtype == np.uint16 for stream in two.streams.values() for s in stream.block.states)
    assert abs(sdr(four) - sdr(two)) < 0.02
    two.save(tmp_path / "two.cells")
    assert same(ms.StoredModel.open(tmp_path / "two.cells").load(at="1 day"), two.load(at="1 day"))
    assert two.cells("w")["magnitude/small"].programmed.dtype == np.float32
    with pytest.raises(ms.SpecError, match="cell_bytes"):
        ms.store(weights, SPEC, seed=1, cell_bytes=3)


def test_a_prepared_model_is_programmed_any_number_of_times():
    prepared = ms.prepare(network(), SPEC)
    first, second = prepared.program(seed=7), prepared.program(seed=8)
    assert same(first.load(at="1 day"), ms.store(network(), SPEC, seed=7).load(at="1 day"))
    assert not same(first.load(), second.load())
    clean = prepared.decode_clean()
    assert same(clean, network().state_dict())


def sdr(values, **spec):
    read = ms.store({"w": values}, ms.StorageSpec(**spec), seed=0).load()["w"]
    return float(10 * torch.log10(values.double().var() / (read - values).double().square().mean()))


@pytest.mark.parametrize("spread", [1e-1, 1e-2, 1e-3, 1e-4])
def test_narrow_values_far_from_zero_keep_their_precision(spread):
    """Scales of normalisation layers: the distortion relative to the spread does not depend on the offset."""
    torch.manual_seed(0)
    noise = torch.randn(5000)
    assert sdr(1 + spread * noise) > sdr(noise) - 1.0


@pytest.mark.parametrize("outlier", [30.0, 100.0, 1000.0])
def test_one_outlier_does_not_spoil_the_rest(outlier):
    torch.manual_seed(0)
    values = torch.randn(20000)
    spoiled = torch.cat([values, torch.tensor([outlier])])
    read = ms.store({"w": spoiled}, ms.StorageSpec(mapper=ms.Linear(clip=3.0)), seed=0).load()["w"]
    limit = 3.0 * float(spoiled.std())
    assert read.min() > -1.3 * limit
    assert (read[:-1] - values).square().mean() < 0.12 * max(1.0, limit / 3) ** 2


def test_values_too_small_for_a_window_are_a_constant():
    read = ms.store({"w": torch.tensor([1e-40, 3e-40, -2e-41])}, ms.StorageSpec(device="ideal"), seed=0).load()["w"]
    assert read.abs().max() < 1e-36


def test_a_changed_device_file_is_read_again(tmp_path):
    path = tmp_path / "mine.toml"
    text = 'schema = "memristore.device"\nversion = 1\nname = "mine"\ntitle = "t"\ntechnology = "x"\ncitation = "c"\n'
    text += 'mark = "computed"\ndomain = "conductance"\nstate_range = [0.0, 1.0]\n{}\n'
    text += '[response]\nform = "poly"\nvalues = [0.0, 1.0]\n'
    path.write_text(text.format("drift_t0 = 20.0"))
    assert ms.StorageSpec(device=str(path)).cell.drift_t0 == 20.0
    path.write_text(text.format("drift_t0 = 2.0"))
    assert ms.StorageSpec(device=str(path)).cell.drift_t0 == 2.0


def test_specs_and_files_are_strict_json(tmp_path):
    import json

    spec = ms.StorageSpec(device=ms.devices.get("pcm-ibm-90nm").replace(name="mine", stuck_low=1e-9))
    assert ms.StorageSpec.from_dict(json.loads(json.dumps(spec.to_dict(), allow_nan=False))) == spec
    made = ms.store({"w": torch.randn(100)}, spec, seed=0)
    made.save(tmp_path / "w.cells")
    assert ms.StoredModel.open(tmp_path / "w.cells").spec == spec


def test_a_file_keeps_the_numbers_of_its_device(tmp_path):
    """Built-in devices too: a later release with other numbers must not change what a file reads back."""
    made = ms.store({"w": torch.randn(100)}, ms.StorageSpec(), seed=0)
    made.save(tmp_path / "w.cells")
    assert b"0.0244" in (tmp_path / "w.cells").read_bytes()
    import os

    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "w.cells").stat().st_mode & 0o777 == 0o666 & ~mask


def test_exact_patterns_reach_tied_tensors_and_must_match():
    w = torch.randn(50)
    read = ms.store({"e": w, "head": w}, ms.StorageSpec(exact=("head",)), seed=0).load(at="1 year")
    assert torch.equal(read["e"], w)
    with pytest.raises(ms.SpecError, match="matches no tensor"):
        ms.store({"w": w}, ms.StorageSpec(exact=("wieght",)), seed=0)


def test_numpy_numbers_lazy_modules_conjugates_and_strict_numpy():
    w = torch.randn(4, dtype=torch.complex64)
    made = ms.store({"w": w.conj(), "x": torch.randn(300)}, ms.StorageSpec(), seed=np.int64(0))
    assert made.weights == 304
    assert torch.equal(made.load(at=np.int64(5), event=np.int64(1))["w"], w.conj())
    with pytest.raises(ms.TensorError, match="not initialised"):
        ms.store(torch.nn.LazyLinear(3), ms.StorageSpec(), seed=0)
    with np.errstate(all="raise"):
        ms.store({"w": torch.randn(500)}, SPEC, seed=0).load(at="1 year")


def test_ages_are_told_for_any_reference_time():
    for t0 in (1e-3, 1.0, 200.0):
        device = ms.devices.get("pcm-ibm-90nm").replace(name="other", drift_t0=t0)
        report = ms.store({"w": torch.randn(10)}, ms.StorageSpec(device=device), seed=1).read(at="10 years").report
        assert 0.3 < report.believed_seconds / 3.15e8 < 3, t0


def test_masks_pay_earlier_when_dropped_values_carry_bits():
    torch.manual_seed(0)
    values = torch.randn(20000) * (torch.rand(20000) < 0.4)
    spec = {"protect": (ms.Sparsity(), ms.Sign(), ms.AdaptiveRange())}
    always = {"protect": (ms.Sparsity(when="always"), ms.Sign(), ms.AdaptiveRange())}
    cells = [ms.store({"w": values}, ms.StorageSpec(**s), seed=0).cells_per_weight for s in (spec, always)]
    assert cells[0] == pytest.approx(cells[1])
    bare = ms.store({"w": values}, ms.StorageSpec(protect=(ms.Sparsity(),)), seed=0)
    assert all(row.kind != "mask" for row in bare.ledger())


def test_reads_after_the_retention_time_are_marked():
    made = ms.store({"w": torch.randn(100)}, ms.StorageSpec(retention="1 day"), seed=0)
    assert not made.read(at="1 day").report.beyond_retention
    assert made.read(at="2 days").report.beyond_retention


@pytest.mark.parametrize("protect", [(), (ms.Sign(),), (ms.Sign(), ms.AdaptiveRange())], ids=["plain", "sign", "range"])
def test_an_outlier_far_beyond_the_prior_comes_back(protect):
    """Where the fitted density underflows, a read must still decode to what was read, not to the window's edge."""
    torch.manual_seed(0)
    values = torch.cat([torch.randn(20000), torch.tensor([1000.0])])
    spec = ms.StorageSpec(protect=protect, mapper=ms.Linear(clip=None))
    read = ms.store({"w": values}, spec, seed=0).load()["w"]
    assert read[-1] == pytest.approx(1000.0, rel=0.3)
