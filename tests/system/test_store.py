"""Storing and reading back: what a user must be able to rely on."""

from __future__ import annotations

import copy
import dataclasses
import threading

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import memristore as ms
from memristore import _core

SPEC = ms.StorageSpec(protect=(ms.Sparsity(when="always"), ms.Sign(), ms.AdaptiveRange()), code=ms.Residual(planes=2))


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 5),
        torch.nn.BatchNorm2d(6),
        torch.nn.Flatten(),
        torch.nn.Linear(96, 40),
        torch.nn.Linear(40, 10),
    )
    model[1].running_mean += torch.randn(6)
    with torch.no_grad():
        model[3].weight[model[3].weight.abs() < 0.05] = 0
    return model


@pytest.fixture(scope="module")
def stored() -> ms.StoredModel:
    return ms.store(network(), SPEC, seed=7)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[k], b[k]) for k in b)


def test_same_bits_for_threads_instruction_sets_partial_reads_and_files(stored, tmp_path):
    whole = stored.load(at="1 year", event=3, threads=1)
    assert same(stored.load(at="1 year", event=3, threads=2), whole)
    assert same(whole, stored.load(at="1 year", event=3, names=["3.weight", "1.bias", "1.running_mean"]))
    stored.save(tmp_path / "net.cells")
    again = ms.StoredModel.open(tmp_path / "net.cells")
    assert again.spec == stored.spec
    assert same(again.load(at="1 year", event=3), whole)
    before = _core.isa()
    try:
        for level in _core.isa_available():
            _core.set_isa(level)
            assert same(ms.store(network(), SPEC, seed=7, threads=1).load(at="1 year", event=3), whole), level
    finally:
        _core.set_isa(before)


def test_python_threads_share_a_model(stored):
    wanted = stored.load(at="1 day")
    found: list[bool] = []
    workers = [threading.Thread(target=lambda: found.append(same(stored.load(at="1 day"), wanted))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [True] * 4


def test_events_and_seeds_are_independent_and_time_matters():
    # Clipped values and posterior means err alike on every array; these do not.
    spec = dataclasses.replace(SPEC, decoder="inverse", mapper=ms.Linear(clip=None))
    stored = ms.store(network(), spec, seed=7)
    w = {name: stored.load(at=at, event=e)["3.weight"] for name, at, e in
         (("a", 0, 0), ("b", 0, 1), ("c", "1 year", 0))}  # fmt: skip
    other = ms.store(network(), spec, seed=8).load()["3.weight"]
    clean = network().state_dict()["3.weight"]
    errors = {k: (v - clean).flatten() for k, v in w.items()} | {"other": (other - clean).flatten()}
    assert not torch.equal(w["a"], w["b"])
    assert not torch.equal(w["a"], w["c"])
    # Another array: errors are uncorrelated (n = 3840; 0.1 is 6 sigma). Another read of the same array shares write
    # noise.
    assert abs(torch.corrcoef(torch.stack([errors["a"], errors["other"]]))[0, 1]) < 0.1
    assert torch.corrcoef(torch.stack([errors["a"], errors["b"]]))[0, 1] > 0.1
    assert errors["c"].square().mean() > errors["a"].square().mean()


def test_model_is_untouched_and_load_into_fills_one(stored):
    model = network()
    before = copy.deepcopy(model.state_dict())
    made = ms.store(model, SPEC, seed=7)
    assert same(model.state_dict(), before)
    with torch.no_grad():
        model[3].weight.zero_()
    assert same(made.load(), stored.load())
    assert same(made.load_into(network(), at="1 day").state_dict(), stored.load(at="1 day"))
    with pytest.raises(ms.TensorError, match="does not fit"):
        made.load_into(torch.nn.Linear(2, 2))


def test_buffers_are_exact_and_zeros_stay_zero(stored):
    clean, read = network().state_dict(), stored.load(at="10 years")
    for name in ("1.running_mean", "1.running_var", "1.num_batches_tracked"):
        assert torch.equal(read[name], clean[name])
    assert torch.equal(read["3.weight"] == 0, clean["3.weight"] == 0)


def test_tied_parameters_are_stored_once():
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 64))
    model[1].weight = model[0].weight
    made = ms.store(model, ms.StorageSpec(), seed=0)
    read = made.load()
    assert read["0.weight"].data_ptr() == read["1.weight"].data_ptr()
    assert made.weights == 64 * 64 + 2 * 64
    assert made.ledger().total < 2 * 64 * 64
    partial = made.load(names=["1.weight"])
    assert torch.equal(partial["1.weight"], read["1.weight"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_floating_dtypes_keep_their_type(dtype):
    values = torch.linspace(-1, 1, 300).to(dtype)
    read = ms.store({"w": values}, ms.StorageSpec(device="ideal", protect=(ms.Sign(),)), seed=0).load()["w"]
    assert read.dtype == dtype
    assert (read.float() - values.float()).abs().max() <= 1e-2


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(10),
        torch.tensor(5),
        torch.tensor([True, False]),
        torch.zeros(0, dtype=torch.int32),
        torch.randn(4, dtype=torch.complex64),
    ],
    ids=["int", "scalar-int", "bool", "empty-int", "complex"],
)
def test_what_is_not_real_valued_is_exact(tensor):
    read = ms.store({"w": tensor}, SPEC, seed=0).load(at="10 years")["w"]
    assert read.dtype == tensor.dtype
    assert torch.equal(read, tensor)


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(0), torch.zeros(3, 0, 2), torch.full((5,), 2.5), torch.zeros(7), torch.tensor(-1.5)],
    ids=["empty", "empty-3d", "constant", "zeros", "0-d"],
)
@pytest.mark.parametrize("spec", [ms.StorageSpec(), SPEC], ids=["plain", "protected"])
def test_degenerate_tensors(tensor, spec):
    made = ms.store({"w": tensor}, spec, seed=0)
    read = made.load(at="1 year")["w"]
    assert read.shape == tensor.shape
    assert torch.equal(read, tensor)
    assert all(row.cells == 0 for row in made.ledger() if row.kind == "data")


def test_non_contiguous_views_and_shared_storage():
    base = torch.randn(30, 40)
    state = {"t": base.t(), "strided": base[::2, ::3], "whole": base, "same": base}
    read = ms.store(state, ms.StorageSpec(device="ideal"), seed=0).load()
    for name, tensor in state.items():
        assert torch.allclose(read[name], tensor, atol=1e-5), name
    assert read["whole"].data_ptr() == read["same"].data_ptr()
    assert read["t"].data_ptr() != read["whole"].data_ptr()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"w": torch.tensor([1.0, float("nan")])}, r"w: 1 of 2 values are not finite"),
        ({"w": torch.tensor([1.0, float("inf")])}, r"w: 1 of 2 values are not finite"),
        ({"w": torch.tensor([1e300, 1.0], dtype=torch.float64)}, "not finite as float32"),
        ({"w": torch.eye(3).to_sparse()}, "dense"),
        ({"w": torch.empty(3, device="meta")}, "meta"),
        ({"w": [1, 2]}, "maps names to tensors"),
        ({3: torch.ones(2)}, "maps names to tensors"),
    ],
)
def test_bad_tensors_are_named(state, message):
    with pytest.raises(ms.TensorError, match=message):
        ms.store(state, SPEC, seed=0)


def test_other_bad_arguments(stored):
    with pytest.raises(ms.TensorError, match="module or a state_dict"):
        ms.store([1, 2], SPEC, seed=0)
    with pytest.raises(ms.SpecError, match="seed"):
        ms.store(network(), SPEC, seed=-1)
    with pytest.raises(ms.SpecError, match="StorageSpec"):
        ms.store(network(), {"device": "ideal"}, seed=0)
    with pytest.raises(ms.SpecError, match="not negative"):
        stored.load(at=-1)
    with pytest.raises(ms.SpecError, match="unknown unit"):
        stored.load(at="3 fortnights")
    with pytest.raises(ms.SpecError, match="event"):
        stored.load(event=-1)
    with pytest.raises(ms.TensorError, match="no tensor is called 'x'"):
        stored.load(names=["x"])
    with pytest.raises(ms.TensorError, match="not the string"):
        stored.load(names="3.weight")


def test_exact_patterns_keep_parameters_exact():
    spec = ms.StorageSpec(exact=("*.bias",))
    clean, read = network().state_dict(), ms.store(network(), spec, seed=1).load(at="1 year")
    assert torch.equal(read["3.bias"], clean["3.bias"])
    assert not torch.equal(read["3.weight"], clean["3.weight"])


def test_names_with_separators_do_not_clash():
    state = {
        "a/sign": torch.randn(100),
        "a": torch.randn(100),
        "%2F": torch.randn(9),
        "": torch.randn(5),
        "/reference": torch.ones(3),
    }
    read = ms.store(state, ms.StorageSpec(device="ideal", protect=(ms.Sign(),)), seed=0).load()
    assert list(read) == list(state)
    for name, tensor in state.items():
        assert torch.allclose(read[name], tensor, atol=1e-5), name


def test_ledger_counts_every_cell(stored):
    ledger = stored.ledger()
    assert ledger.total == sum(row.cells for row in ledger)
    assert stored.cells_per_weight == ledger.total / stored.weights
    assert stored.weights == sum(t.numel() for n, t in network().state_dict().items() if "num_batches" not in n)
    data = sum(row.cells for row in ledger if row.kind == "data")
    assert data == sum(s.block.cells for s in stored.streams.values())
    bits = sum(row.cells for row in ledger if row.kind not in ("data", "reference"))
    assert bits == stored.bits.cells
    parity = sum(row.cells for row in ledger if row.kind == "parity")
    check_bits = sum(len(area.rows) * area.code.check_bits for area in stored.bits.areas)
    assert parity == pytest.approx(check_bits * stored.bits.format.cells_per_coded_bit, abs=1)
    (reference,) = [row for row in ledger if row.kind == "reference"]
    assert reference.cells == 256
    assert "cells per weight" in str(ledger)
    assert len(ledger.to_dicts()) == len(ledger)


def test_fp32_on_single_level_cells_is_36_cells_per_weight():
    single = ms.StorageSpec(device="ideal", bits=ms.Secded(), levels=ms.Levels(count=2))
    spec = dataclasses.replace(single, compress=(ms.Raw(dtype="float32"),))
    made = ms.store({"w": torch.randn(4096)}, spec, seed=0)
    assert made.cells_per_weight == pytest.approx(36.0)
    spec = dataclasses.replace(single, compress=(ms.Quantize(bits=8),))
    made = ms.store({"w": torch.randn(64, 64)}, spec, seed=0)
    assert made.cells_per_weight == pytest.approx(9.0, rel=0.01)


def test_cells_show_what_happened(stored):
    parts = stored.cells("3.weight", at="1 year")
    for part in parts.values():
        assert part.target.shape == part.programmed.shape == part.read.shape == part.pulses.shape == part.failed.shape
        assert part.target.min() >= 0
        assert part.target.max() <= 1
        assert part.unit == "uS"
        assert part.read.mean() < 0.7 * part.programmed.mean()
    spec = ms.StorageSpec(write=ms.ProgramAndVerify(max_pulses=20), protect=(ms.Sign(),))
    (part,) = ms.store(network(), spec, seed=0).cells("3.weight").values()
    assert part.pulses.max() <= 20
    assert 1 < part.pulses.mean() < 20
    assert part.failed.mean() < 0.05
    assert np.abs(part.programmed - 25 * part.target)[part.failed == 0].mean() < 0.3
    bare = ms.store(network(), SPEC, seed=0, trace=False)
    with pytest.raises(ms.TensorError, match="trace=True"):
        bare.cells("3.weight")


def test_info_names_every_stage(stored):
    text = stored.info() + repr(stored.spec)
    for word in (
        "write",
        "drift",
        "relaxation",
        "read noise",
        "faults",
        "compensation",
        "decoder",
        "cell-to-cell",
        "sized for",
    ):
        assert word in text


def test_compensation_is_what_saves_a_drifting_device():
    w = torch.randn(20000)

    def sdr(**kw):
        read = ms.store({"w": w}, ms.StorageSpec(protect=(ms.Sign(),), **kw), seed=0).read(at="1 year")
        return 10 * torch.log10(w.var() / (read.state_dict["w"] - w).square().mean()), read.report

    with_cells, report = sdr()
    without, _ = sdr(compensation=None)
    assert with_cells > without + 5
    assert 0.3 < report.believed_seconds / 31536000 < 3
    assert report.words_failed == report.words_wrong == 0


def test_too_many_stuck_cells_are_said():
    device = ms.devices.get("pcm-ibm-90nm").replace(name="stuck", stuck_low=0.02, stuck_high=0.02)
    spec = ms.StorageSpec(device=device, protect=(ms.Sign(),), bits=ms.Secded())
    with pytest.warns(UserWarning, match="block error"):
        made = ms.store({"w": torch.randn(5000)}, spec, seed=0)
    assert "NOT met" in str(made.ledger())
    report = made.read(at="1 day").report
    assert report.bits_raw_errors > 0
    assert report.words_corrected > 0
    # The words with the start value are read first, to learn the age, and then with the others.
    assert report.bits.words == sum(len(area.rows) for area in made.bits.areas)


def test_damaged_truncated_and_foreign_files(stored, tmp_path):
    path = tmp_path / "net.cells"
    stored.save(path)
    whole = path.read_bytes()
    other = tmp_path / "other.cells"
    for cut in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        other.write_bytes(whole[:cut])
        with pytest.raises(ms.FileError):
            ms.StoredModel.open(other)
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(whole), 40):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        other.write_bytes(bytes(damaged))
        with pytest.raises(ms.FileError):
            ms.StoredModel.open(other)
    other.write_text("not a file of cells")
    with pytest.raises(ms.FileError, match="safetensors"):
        ms.StoredModel.open(other)
    from safetensors.torch import save_file

    save_file({"w": torch.ones(3)}, other)
    with pytest.raises(ms.FileError, match="not one of stored cells"):
        ms.StoredModel.open(other)
    with pytest.raises(ms.FileError, match="no such file"):
        ms.StoredModel.open(tmp_path / "absent.cells")
    with pytest.raises(ms.FileError, match="cannot write"):
        stored.save(tmp_path / "absent" / "net.cells")
    assert ms.StoredModel.open(path).cells_per_weight == stored.cells_per_weight


shapes = st.lists(st.integers(0, 7), max_size=3).map(tuple)
finite = st.floats(-1e6, 1e6, width=32)


@st.composite
def state_dicts(draw):
    out = {}
    for i in range(draw(st.integers(1, 4))):
        shape = draw(shapes)
        count = int(np.prod(shape, dtype=int))
        values = draw(st.lists(finite, min_size=count, max_size=count))
        dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.int64, torch.bool]))
        out[f"t{i}"] = torch.tensor(values, dtype=torch.float64).reshape(shape).to(dtype)
    return out


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(state_dicts(), st.sampled_from([(), (ms.Sign(),), (ms.Sparsity(when="always"), ms.Sign(), ms.AdaptiveRange())]),
       st.sampled_from([ms.Uncoded(), ms.Repetition(planes=2), ms.Residual(planes=2)]),
       st.sampled_from([ms.Linear(), ms.Linear(clip=None), ms.Companded(), ms.Differential()]))  # fmt: skip
def test_any_state_dict_survives_ideal_cells(state, protect, code, mapper):
    spec = ms.StorageSpec(device="ideal", protect=protect, code=code, mapper=mapper)
    read = ms.store(state, spec, seed=0).load(at="1 year")
    assert list(read) == list(state)
    for name, tensor in state.items():
        assert read[name].dtype == tensor.dtype
        assert read[name].shape == tensor.shape
        if not tensor.is_floating_point():
            assert torch.equal(read[name], tensor)
        elif tensor.numel():
            # Window edges are rounded to bfloat16 (2^-7) and targets to float32; decoding tables to 2^-20 of the
            # window.
            reach = float(tensor.abs().max())
            assert (read[name] - tensor).abs().max() <= 2e-5 * reach + 1e-37, name
