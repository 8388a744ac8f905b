"""The digital side end to end: sized codes on multi-level cells, ledger arithmetic, baselines."""

from __future__ import annotations

import dataclasses
import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from typer.testing import CliRunner

import memristore as ms
from memristore import cell_file, rng
from memristore.bit_cells import BitCells
from memristore.channel import BitChannel
from memristore.cli import app
from memristore.codes import BitCode
from memristore.errors import FileError, SpecError, TensorError
from memristore.evaluate.compare import compare
from memristore.evaluate.schemes import BEST, Scheme, digital_schemes
from memristore.evaluate.sdr import EXACT, Sdr
from memristore.limits import capacity
from memristore.mapping import LevelDesign
from memristore.sizing import BitFormat, sized_for
from memristore.storage import prepare
from memristore.streams import BitStream

YEAR = 31_536_000.0


def network(n: int = 64) -> torch.nn.Sequential:
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(n, n), torch.nn.Linear(n, 10))


@pytest.mark.parametrize(
    ("raw", "t", "overhead"),
    [(1e-6, 4, 1.3), (1e-5, 6, 1.9), (1e-4, 11, 3.5), (1e-3, 26, 8.3), (3e-3, 48, 15.0)],
)
def test_bch_for_each_raw_error_rate(raw: float, t: int, overhead: float) -> None:
    """Least t for 4096 data bits and a block error of 1e-12; the binomial tail, section 6 of the reference."""
    (code,) = ms.Bch(data_bits=4096).candidates(BitChannel(raw, 0.0), 1e-12)
    assert code.t == t
    # The reference prints 15 % for 15.2.
    assert 100 * code.check_bits / 4096 == pytest.approx(overhead, abs=0.3 if raw == 3e-3 else 0.06)


@pytest.mark.parametrize(
    ("compress", "cells"),
    [((ms.Raw(dtype="float32"),), 16.6), ((ms.Quantize(bits=8),), 4.1), ((ms.Quantize(bits=4),), 2.1)],
    ids=["fp32", "int8", "int4"],
)
def test_ledger_of_digital_formats(compress: tuple[ms.Raw], cells: float) -> None:
    """Two bits per cell with BCH of t = 11 (3.5 %): the reference's cells per weight, from the ledger."""
    spec = ms.StorageSpec(
        device="awgn", compress=compress, bits=ms.Bch(t=11), levels=ms.Levels(count=4), compensation=None
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stored = ms.store({"w": torch.randn(400_000, generator=torch.Generator().manual_seed(1))}, spec, seed=0)
    assert stored.cells_per_weight == pytest.approx(cells, abs=0.06)
    assert stored.cells_per_weight == pytest.approx({16.6: 32, 4.1: 8, 2.1: 4}[cells] * (1 + 143 / 4096) / 2, rel=2e-3)


def test_ledger_of_pruned_int8() -> None:
    """90 % zeros, int8, entropy-coded mask: near (0.8 + 0.47) / 1.93 cells per weight."""
    values = torch.randn(400_000, generator=torch.Generator().manual_seed(1))
    values[torch.rand(values.shape, generator=torch.Generator().manual_seed(2)) < 0.9] = 0
    spec = ms.StorageSpec(
        device="awgn",
        compress=(ms.Quantize(bits=8, sparse=True),),
        protect=(ms.Entropy(),),
        bits=ms.Bch(t=11),
        levels=ms.Levels(count=4),
        compensation=None,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stored = ms.store({"w": values}, spec, seed=0)
    # Entropy coding takes a little off the 8-bit codes as well.
    assert 0.55 < stored.cells_per_weight < 0.67


def test_secded_overhead() -> None:
    spec = ms.StorageSpec(device="ideal", compress=(ms.Raw(),), bits=ms.Secded(), levels=ms.Levels(count=2))
    stored = ms.store({"w": torch.randn(8192)}, spec, seed=0)
    kinds = stored.ledger().by_kind()
    assert kinds["parity"] * 8 == kinds["exact"] + kinds["padding"] + kinds.get("scale", 0) + kinds.get("index", 0)


@pytest.mark.parametrize("device", ["pcm-ibm-90nm", "pcm-partial-reset"])
def test_the_densest_code_nears_capacity(device: str) -> None:
    """At least 85 % of the cell's capacity after a year, and no block lost among as many as show 1e-2 (99.9 %)."""
    found = sized_for(ms.Densest(), device, "1 year", block_error=1e-4)
    assert found.met
    assert found.net_bits_per_cell >= 0.85 * capacity(ms.devices.get(device), YEAR).bits
    hard = sized_for(ms.Bch(), device, "1 year", block_error=1e-4)
    assert hard.met
    assert hard.net_bits_per_cell < found.net_bits_per_cell
    assert lost_blocks(found, device, 690) == 0


def lost_blocks(found: BitFormat, device: str, blocks: int) -> int:
    """Blocks of random bits that came back wrong after a year, through real cells."""
    each = found.code.block_data_bits // 8
    blocks = -(-blocks // found.levels.bits) * found.levels.bits
    data = np.random.default_rng(5).integers(0, 256, (blocks, each), dtype=np.uint8)
    rows = np.concatenate([data, found.code.encode(data)], axis=1)
    design = found.levels.design(ms.devices.get(device), ms.OneShot(), YEAR, found.copies)
    read, _ = design.store(
        rows, 8 * each + found.code.check_bits, key=rng.key(1), first=0, at=YEAR, believed=YEAR, event=0,
        soft=found.code.soft,
    )  # fmt: skip
    if found.code.soft:
        back, status = found.code.decode_soft(read.view(np.int8))
    else:
        back = np.ascontiguousarray(read[:, :each])
        status = found.code.decode(back, np.ascontiguousarray(read[:, each:]))
    wrong = (back != data).any(axis=1)
    assert not np.any(wrong & (status >= 0)), "a block came back wrong and nobody was told"
    return int(np.count_nonzero(wrong))


@pytest.mark.parametrize("bits", [ms.Secded(), ms.Bch(), ms.Bch(t=3, data_bits=64), ms.Ldpc(), ms.Densest()])
@pytest.mark.parametrize("size", [0, 1, 7, 1000])
def test_bits_come_back_exactly(bits: BitCode, size: int) -> None:
    """Whatever code, whatever length, whole or in part, before and after a file."""
    state = {"a": torch.arange(size, dtype=torch.int32), "b": torch.full((3,), 7, dtype=torch.int64)}
    stored = ms.store(state, ms.StorageSpec(bits=bits, retention="1 year"), seed=4)
    for name, tensor in stored.load(at="1 year").items():
        assert torch.equal(tensor, state[name])
    assert torch.equal(stored.load(at="1 year", names=["b"])["b"], state["b"])
    assert stored.ledger().total == stored.bits.cells + stored.references.cells


def on_ideal_cells(found: BitFormat) -> LevelDesign:
    return found.levels.design(ms.devices.get("ideal"), ms.OneShot(), 0.0, 1)


def test_formats_are_counted_as_laid_out() -> None:
    for code in (ms.Bch(t=11), ms.Secded(), ms.Ldpc(design_rate=0.75, length="short")):
        for count in (2, 3, 4, 6, 8):
            found = BitFormat(code, ms.Levels(count=count), 1, BitChannel(0, 1), 0.0)
            for payload in (8, 800, 100_000):
                stream = BitStream("s", np.zeros(payload // 8, np.uint8), payload, "exact")
                assert BitCells.pack([stream], found, on_ideal_cells).cells == found.cells(payload)
                assert found.cells(payload) >= payload * found.cells_per_coded_bit
            assert found.cells(10_000_000) == pytest.approx(10_000_000 * found.cells_per_bit, rel=0.01)


@pytest.mark.parametrize("payload", [100, 1_000, 5_000, 30_000, 70_000, 100_000, 130_000, 300_000])
def test_what_is_left_over_goes_where_it_takes_the_fewest_cells(payload: int) -> None:
    device = "pcm-ibm-90nm"
    found = sized_for(ms.Densest(), device, "1 year", payload_bits=payload)
    alone = sized_for(ms.Densest(), device, "1 year")
    bch = sized_for(ms.Bch(), device, "1 year", payload_bits=payload)
    assert found.cells(payload) <= min(alone.cells(payload), bch.cells(payload))
    assert found.met
    # Long blocks hold 2 bits in a cell; what they leave over costs at most a block of BCH codes with its check bits.
    assert found.cells(payload) < payload / 2 + 7_000
    state = {"w": torch.from_numpy(np.random.default_rng(payload).integers(0, 256, payload // 8, dtype=np.uint8))}
    stored = ms.store(state, ms.StorageSpec(bits=ms.Densest(), retention="1 year"), seed=2)
    assert torch.equal(stored.load(at="1 year")["w"], state["w"])
    assert stored.bits.format == BitFormat.from_dict(stored.bits.format.to_dict())
    assert stored.ledger().total == stored.bits.cells + stored.references.cells
    assert all(row.cells >= 0 for row in stored.ledger().rows)


def test_a_tail_pays_for_itself() -> None:
    # 13 long blocks and a bit: a shortened superblock would carry the check bits of three whole ones.
    found = sized_for(ms.Densest(), "pcm-ibm-90nm", "1 year", payload_bits=280_448)
    assert found.tail is not None
    whole = sized_for(ms.Ldpc(length="long"), "pcm-ibm-90nm", "1 year", payload_bits=280_448)
    assert found.cells(280_448) < 0.97 * whole.cells(280_448)
    assert "the rest in" in found.describe()


def test_a_tail_is_judged_like_the_rest() -> None:
    """Its blocks are what fails first: in predictions beyond the retention time, and in what the ledger says."""
    spec = ms.StorageSpec(compress=(ms.Raw(),), bits=ms.Densest(), retention="1 year")
    state = {"w": torch.randn(280_448 // 32, generator=torch.Generator().manual_seed(1))}
    found = ms.store(state, spec, seed=0).bits.format
    assert found.tail is not None
    # Ten words of the long code hold 266,240 of the bits, two of the short one the rest.
    assert [part for part, _ in found.shares(280_448)] == list(found.parts)
    assert [share for _, share in found.shares(280_448)] == pytest.approx(
        [266_240 / 280_448, 14_208 / 280_448], rel=0.01
    )
    late = 3.2e8
    main, tail = (f.code.block_error(spec.level_design(f).channel(late)) for f in found.parts)
    assert tail > 100 * main
    assert ms.predict(state, spec, at=late).block_error == pytest.approx(tail)
    spec = ms.StorageSpec(device="pcm-partial-set/pooled", bits=ms.Densest(), retention="1 year", compensation=None)
    state = {"w": torch.from_numpy(np.random.default_rng(0).integers(0, 256, 226_795 // 8, dtype=np.uint8))}
    stored = ms.store(state, spec, seed=0)
    found = stored.bits.format
    assert found.tail is not None
    assert found.tail.block_error > found.block_error
    assert f"block error {found.tail.block_error:.1e}" in str(stored.ledger())
    assert "tails extrapolated beyond 120 measured writes" in str(stored.ledger())


def reopener(path: Path) -> tuple[str, Callable[[str | dict[str, Any]], ms.StoredModel]]:
    """Header of a file of cells, and how to open the file with another: a document gets its checksum first."""
    with safe_open(str(path), framework="numpy") as file:
        text = file.metadata()["memristore"]
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    def opened(header: str | dict[str, Any]) -> ms.StoredModel:
        if not isinstance(header, str):
            header = json.dumps({**header, "sha256": cell_file._checksum(header, arrays)})
        save_file(arrays, path, metadata={"memristore": header})
        return ms.StoredModel.open(path)

    return text, opened


def test_headers_that_lack_what_a_read_needs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.cells"
    spec = ms.StorageSpec(protect=(ms.Sign(),))
    ms.store({"w": torch.randn(40, 5), "n": torch.arange(3)}, spec, seed=0).save(path)
    text, opened = reopener(path)
    assert set(opened(json.loads(text)).load()) == {"w", "n"}

    def changed(**given: Any) -> dict[str, Any]:
        return {**json.loads(text), **given}

    known = json.loads(text)
    tensors, regions = known["entries"], known["bits"]["regions"]
    for header, message in (
        (changed(entries=[*tensors, {**tensors[0], "name": "v", "base": "v"}]), "nothing is kept of tensor 'v'"),
        (changed(entries=[*tensors, tensors[0]]), "two tensors have one name"),
        (changed(entries=[{**tensors[0], "dtype": "nn"}, tensors[1]]), "which torch does not know"),
        (changed(entries=[{**tensors[0], "dtype": "int8"}, tensors[1]]), "kept in analog cells"),
        (changed(entries=[{**tensors[0], "shape": [-40, -5]}, tensors[1]]), r"the shape \(-40, -5\)"),
    ):
        with pytest.raises(FileError, match=message):
            opened(header)
    lacking = {"/reference": "is missing", "w/magnitude//planes": "is missing", "n": "nothing is kept"}
    for name, message in lacking.items():
        fewer = [{**r, "name": "w/other"} if r["name"] == name else r for r in regions]
        with pytest.raises(FileError, match=message):
            opened(changed(bits={**known["bits"], "regions": fewer}))
    with pytest.raises(TensorError, match="200 values"):
        opened(changed(entries=[{**tensors[0], "shape": [40, 6]}, tensors[1]])).load()
    # What only the recipe knows is told by the read.
    ms.store({"v": torch.randn(40, 5)}, ms.StorageSpec(compress=(ms.Raw(),)), seed=0).save(path)
    text, opened = reopener(path)
    lacking_coded = json.loads(text)
    for region in lacking_coded["bits"]["regions"]:
        region["name"] = region["name"].replace("v/", "v/other")
    with pytest.raises(TensorError, match="v: the streams"):
        opened(lacking_coded).load()


def test_a_tail_of_other_copies_is_refused(tmp_path: Path) -> None:
    """Cells are counted, and copies kept apart, by the copies of the whole; so in files."""
    found = sized_for(ms.Densest(), "pcm-ibm-90nm", "1 year", payload_bits=280_448)
    assert found.tail is not None
    for tail in (dataclasses.replace(found.tail, copies=2), found):
        with pytest.raises(SpecError, match="tail"):
            dataclasses.replace(found, tail=tail)
    path = tmp_path / "w.cells"
    state = {"w": torch.zeros(280_448 // 8, dtype=torch.uint8)}
    ms.store(state, ms.StorageSpec(bits=ms.Densest(), retention="1 year"), seed=0).save(path)
    text, opened = reopener(path)
    opened(text)
    for where, value in (("copies", 16), ("copies", -1), ("copies", math.inf), ("tail", json.loads(text)["bits"])):
        header = json.loads(text)
        header["bits"]["format"]["tail"][where] = value
        with pytest.raises(FileError):
            opened(header)
    header = json.loads(text)
    header["bits"]["regions"][0]["byte"] = math.nan
    with pytest.raises(FileError):
        opened(header)
    with pytest.raises(FileError, match="nested"):
        opened(text.replace('"tail": null', '"tail": ' + "[" * 100_000 + "]" * 100_000, 1))
    for version, words in ((2, "an older"), (4, "a newer")):
        with pytest.raises(FileError, match=words):
            opened(json.dumps({**json.loads(text), "version": version}))


def test_in_place_words_carry_no_other_code() -> None:
    spec = ms.StorageSpec(compress=(ms.ZeroSpace(),), levels=ms.Levels(count=2), retention="1 year")
    stored = ms.store(network(), spec, seed=0)
    kinds = stored.ledger().by_kind()
    assert stored.in_place.cells >= 8 * stored.weights
    assert kinds["parity"] < 0.1 * kinds["index"]
    assert Sdr(network())(stored.load(at="1 year")) > 35


def test_a_target_out_of_reach_is_said() -> None:
    spec = ms.StorageSpec(device="pcm-partial-set/pooled", bits=ms.Bch(t=1), levels=ms.Levels(count=8))
    with pytest.warns(UserWarning, match="not 1e-12"):
        stored = ms.store(network(16), spec, seed=0)
    assert "NOT met" in str(stored.ledger())


def test_sizing_rejects_nonsense() -> None:
    with pytest.raises(SpecError, match="not a bit code"):
        sized_for("bch", "pcm-ibm-90nm")
    with pytest.raises(SpecError, match="block_error"):
        sized_for(ms.Bch(), "pcm-ibm-90nm", block_error=2.0)
    with pytest.raises(SpecError, match="levels"):
        ms.StorageSpec(levels=4)


def test_formats_survive_the_way_to_a_dict() -> None:
    found = sized_for(ms.Bch(), "pcm-ibm-90nm", "1 year")
    assert BitFormat.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_sdr_counts_what_is_wrong() -> None:
    model = network(16)
    judge = Sdr(model)
    assert judge(model) == EXACT
    noisy = {k: v + 0.1 * v.std() * torch.sign(torch.randn_like(v)) for k, v in model.state_dict().items()}
    assert judge(noisy) == pytest.approx(20.0, abs=0.1)


def test_compare_puts_rivals_beside_analog_rows() -> None:
    model = network()
    spec = ms.StorageSpec(protect=(ms.Sign(), ms.AdaptiveRange()), retention="1 year", bits=ms.Densest())
    found = compare(
        model,
        retention="1 year",
        analog=[Scheme(name="ours", spec=spec)],
        digital=digital_schemes("pcm-ibm-90nm", "1 year", ("int8",), (4,)),
        trials=2,
        progress=False,
    )
    names = [row.scheme for row in found]
    assert names == ["ours", f"{BEST} at the SDR of 'ours'", "int8, 2 bits/cell"]
    ours, rival = found.evaluations[:2]
    assert rival.at("1 year").mean == pytest.approx(ours.at("1 year").mean, abs=0.5)
    assert found.times == [YEAR, 10 * YEAR]
    assert "net bits/cell" in str(found)
    assert prepare(model, spec).decode_clean().keys() == model.state_dict().keys()


def test_compare_on_the_command_line(tmp_path: Path) -> None:
    folder = tmp_path
    torch.save(network(32).state_dict(), folder / "w.pt")
    words = ["compare", str(folder / "w.pt"), "--retention", "1 year", "--formats", "int8", "--trials", "1"]
    spec = folder / "mine.json"
    spec.write_text(json.dumps(ms.StorageSpec(retention="1 year", protect=(ms.Sign(),)).to_dict()))
    words += ["--spec", str(spec), "--json", str(folder / "c.json"), "--plot", str(folder / "c.png")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    rows = json.loads((folder / "c.json").read_text())["rows"]
    assert next(row["scheme"] for row in rows) == "mine"
    assert len(rows) == 5
    assert (folder / "c.png").stat().st_size > 10_000
