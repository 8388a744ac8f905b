"""Sweeps: what a file says, what comes out, who may share a file, and what a killed run leaves behind."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from memristore import Sign, StorageSpec, Sweep, SweepModel, SweepResults, run_sweep
from memristore.cli import app
from memristore.errors import FileError, SpecError, SweepError
from memristore.sweep import claims, work
from memristore.sweep.schema import connect, transaction
from system import sweep_runs
from system.sweep_runs import QUICK, finished, reference, run_killed, write_sweep

SCRIPT = [sys.executable, sweep_runs.__file__]
COMMAND = [sys.executable, "-m", "memristore", "sweep"]


def needs(package: str) -> pytest.MarkDecorator:
    """Skip, and say so, where an optional package is not installed."""
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"{package} is not installed: pip install 'memristore[cluster,sweep]'")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, int]:
    """The sweep of 48 results, and the digest and number of an undisturbed run."""
    folder = tmp_path_factory.mktemp("sweep")
    path = write_sweep(folder)
    return path, *reference(path, folder)


def run(sweep: Sweep | Path, results: Path, **options: Any) -> SweepResults:
    with ThreadPoolExecutor(1) as pool:
        return run_sweep(sweep, results, pool, progress=False, **options)


def attempts(found: SweepResults) -> set[int]:
    return {row["attempts"] for row in found.rows()}


# -- what a sweep is ---------------------------------------------------------------------------------------------------


def test_a_file_becomes_recipes_on_devices(tmp_path: Path) -> None:
    (tmp_path / "found.json").write_text(json.dumps({"spec": StorageSpec(protect=(Sign(),)).to_dict()}))
    (tmp_path / "s.toml").write_text("""
times = ["1 year", 0, "365 days"]
seeds = [3, 1, 3]
devices = ["ideal", "awgn/20"]
baselines = ["fp32", "digital-best"]
[models.d]
task = "digits"
data = "here"
[specs.found]
file = "found.json"
decoder = "inverse"
[specs.many]
code = "repetition"
mapper = { type = "linear", clip = "none" }
vary = { "code.planes" = [2, 3], decoder = ["mmse", "inverse"] }
""")
    sweep = Sweep.from_file(tmp_path / "s.toml")
    assert sweep.seconds == (0.0, 31536000.0)
    assert sweep.arrays == (3, 1)
    assert sweep.models["d"].data == str(tmp_path / "here")
    recipes = list(sweep.recipes())
    names = [r.scheme for r in recipes if r.device == "ideal"]
    assert names[:3] == ["found", "many, planes 2, decoder mmse", "many, planes 2, decoder inverse"]
    assert names[5:] == ["fp32", *(f"digital-best for {name}" for name in names[:5])]
    assert len(recipes) == 22
    assert len(sweep) == 22 * 2 * 2
    assert recipes[0].spec.decoder == "inverse"
    assert recipes[0].spec.protect == (Sign(),)
    assert recipes[1].spec.mapper.to_dict()["clip"] is None
    assert Sweep.from_dict(json.loads(json.dumps(sweep.to_dict()))) == sweep


def test_names_and_places_do_not_decide_results() -> None:
    def key(**changes: Any) -> str:
        given: dict[str, Any] = {
            "models": {"a": SweepModel(task="digits")},
            "specs": {"x": StorageSpec(device="ideal")},
        }
        return next(iter(Sweep(times=[0], baselines=[], **(given | changes)).recipes())).key

    assert key() == key(specs={"y": StorageSpec(device="ideal")}) == key(devices=["ideal"])
    assert key() == key(models={"b": SweepModel(task="digits", data="elsewhere")})
    others = [key(models={"a": SweepModel(task="digits", images=5)}), key(devices=["awgn/20"])]
    others.append(key(specs={"x": StorageSpec(device="ideal", decoder="inverse")}))
    assert len({key(), *others}) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "unknown key 'colour'"),
        ({"times": []}, "at least one read time"),
        ({"times": ["-1 s"]}, "cannot read the time"),
        ({"times": [float("nan")]}, "finite"),
        ({"seeds": 0}, "number of arrays"),
        ({"seeds": [-1]}, "a seed is an integer"),
        ({"seeds": True}, "number of arrays"),
        ({"models": {}}, "at least one"),
        ({"models": {"a": {}}}, "give a task"),
        ({"models": {"a": {"task": "digits", "wieghts": "x"}}}, "unknown key 'wieghts'"),
        ({"models": {"a": {"factory": "nowhere"}}}, "module:function"),
        ({"specs": {"x": {"code": "resudial"}}}, "specs.x: no analogcode is called 'resudial'"),
        ({"specs": {"x": {"vary": {"code.planes": [1]}}}}, "specs.x"),
        ({"specs": {"x": {}, "y": {}}}, "are the same"),
        ({"devices": ["no-such"]}, "no-such"),
        ({"baselines": ["int5"]}, "int5"),
        ({"retention": "soon"}, "cannot read the time"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], message: str) -> None:
    good = {"models": {"a": {"task": "digits"}}, "specs": {"x": {}}, "devices": ["ideal"], "times": [0]}
    with pytest.raises(ValueError, match=message):
        len(Sweep.from_dict(good | change))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("times = [")
    with pytest.raises(FileError, match=r"s\.toml: not valid TOML"):
        Sweep.from_file(tmp_path / "s.toml")
    with pytest.raises(FileError, match="cannot be read"):
        Sweep.from_file(tmp_path / "none.toml")
    (tmp_path / "r.db").write_bytes(b"no database, but long enough to look like one" * 50)
    with pytest.raises(FileError, match="damaged, or not a file of results"):
        SweepResults(tmp_path / "r.db")
    with pytest.raises(FileError, match="no such file of results"):
        SweepResults(tmp_path / "none.db")
    with pytest.raises(FileError, match="no folder"):
        SweepResults(tmp_path / "none" / "r.db", create=True)


# -- results -----------------------------------------------------------------------------------------------------------


def test_results_are_kept_once_and_extended(small: tuple[Path, str, int], tmp_path: Path) -> None:
    path, digest, total = small
    assert total == 48
    with run(path, tmp_path / "r.db") as found:
        assert (found.digest(), len(found)) == (digest, total)
    stamps = finished(tmp_path / "r.db")
    more = write_sweep(tmp_path, seeds=5)
    with run(more, tmp_path / "r.db") as found:
        assert len(found) == 60
        assert attempts(found) == {1}
    assert stamps.items() <= finished(tmp_path / "r.db").items()


def test_numbers_agree_with_the_library(small: tuple[Path, str, int], tmp_path: Path) -> None:
    with run(small[0], tmp_path / "r.db") as found:
        frame = found.to_dataframe()
        groups = found.comparisons()
    assert set(groups) == {("net", "awgn/20"), ("net", "ideal")}
    row = groups["net", "awgn/20"]["plain"]
    chosen = frame[(frame.device == "awgn/20") & (frame.scheme == "plain") & (frame.at_seconds == 0)]
    assert row.at(0).values == tuple(chosen.value)
    assert row.at(0).trials == 4
    # 20 dB cells, all of whose range is used, leave 10 to 20 dB of these Gaussian weights.
    assert 10 < row.at(0).mean < 20
    assert groups["net", "ideal"]["plain"].at("1 year").mean > 60
    assert row.cells_per_weight == pytest.approx(chosen.cells.sum() / chosen.weights.sum())


def test_exports_hold_the_same_numbers(small: tuple[Path, str, int], tmp_path: Path) -> None:
    with run(small[0], tmp_path / "r.db") as found:
        frame = found.to_dataframe()
        found.export(tmp_path / "r.csv")
        found.export(tmp_path / "r.json")
        with pytest.raises(SpecError, match="ending"):
            found.export(tmp_path / "r.xlsx")
        with pytest.raises(FileError, match="cannot be written"):
            found.export(tmp_path / "none" / "r.csv")
    for back in (
        pandas.read_csv(tmp_path / "r.csv"),
        pandas.read_json(tmp_path / "r.json"),
    ):
        pandas.testing.assert_series_equal(back.value, frame.value, rtol=1e-13)
        assert list(back.scheme) == list(frame.scheme)


@needs("pyarrow")
def test_parquet_holds_the_same_bits(small: tuple[Path, str, int], tmp_path: Path) -> None:
    with run(small[0], tmp_path / "r.db") as found:
        found.export(tmp_path / "r.parquet")
        pandas.testing.assert_frame_equal(pandas.read_parquet(tmp_path / "r.parquet"), found.to_dataframe())


def test_a_failed_array_does_not_stop_the_others(tmp_path: Path) -> None:
    write_sweep(tmp_path)
    save_file({"w": torch.full((4, 4), float("nan"))}, tmp_path / "broken.safetensors")
    models = {name: SweepModel(weights=str(tmp_path / f"{name}.safetensors")) for name in ("broken", "net")}
    spec = StorageSpec.from_dict({"device": "awgn/20", **QUICK})
    sweep = Sweep(models=models, specs={"plain": spec}, times=[0], seeds=2, baselines=[])
    with pytest.raises(SweepError, match=r"2 arrays failed.*'plain' of 'broken' on 'awgn/20', seed 0: .*w"):
        run(sweep, tmp_path / "r.db")
    with SweepResults(tmp_path / "r.db") as found:
        assert found.counts() == {"done": 2, "failed": 2}
    # The cause is mended, and only what failed runs again.
    draw = torch.Generator().manual_seed(1)
    save_file({"w": torch.randn(24, 24, generator=draw)}, tmp_path / "mended.safetensors")
    (tmp_path / "mended.safetensors").replace(tmp_path / "broken.safetensors")
    work._network.cache_clear()
    with run(sweep, tmp_path / "r.db", retry=True) as found:
        assert found.counts() == {"done": 4}
        assert [row["attempts"] for row in found.rows()] == [2, 2, 1, 1]


def test_another_network_of_the_same_name_is_refused(tmp_path: Path) -> None:
    path = write_sweep(tmp_path)
    run(path, tmp_path / "r.db").close()
    write_sweep(tmp_path, seeds=5, size=32)
    work._network.cache_clear()
    with pytest.raises(SweepError, match="other weights"):
        run(path, tmp_path / "r.db")
    work._network.cache_clear()


def test_runners_share_a_file(small: tuple[Path, str, int], tmp_path: Path) -> None:
    path, digest, total = small
    with ThreadPoolExecutor(2) as both:
        runs = [both.submit(run, path, tmp_path / "r.db", ahead=1) for _ in range(2)]
        for done in runs:
            done.result().close()
    with SweepResults(tmp_path / "r.db") as found:
        assert (found.digest(), len(found)) == (digest, total)
        assert attempts(found) == {1}


def test_claims_of_the_dead_and_the_silent_are_free(small: tuple[Path, str, int], tmp_path: Path) -> None:
    with SweepResults(tmp_path / "r.db", create=True) as found:
        key = found.add(Sweep.from_file(small[0]))
        place, process, started, _ = json.loads(claims.new_owner())
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        owners = {
            "dead": json.dumps([place, ended.pid, "0", "a"]),
            "reused": json.dumps([place, process, "1" + started, "b"]),
            "alive": json.dumps([place, process, started, "c"]),
            "far": json.dumps(["elsewhere", 1, "0", "d"]),
            "silent": json.dumps(["elsewhere", 2, "0", "e"]),
        }
        taken = {}
        for name, owner in owners.items():
            taken[name] = claims.claim(found.db, owner, key, 0.0 if name == "silent" else 60.0)
        time.sleep(0.01)
        assert len({(c.recipe, c.seed) for c in taken.values() if c is not None}) == 3, (
            "dead and reused were taken over"
        )
        with transaction(found.db):
            claims.free_lapsed(found.db, claims.new_owner())
        held = {row[0] for row in found.db.execute("SELECT DISTINCT owner FROM points WHERE state = 'claimed'")}
        assert held == {owners["alive"], owners["far"]}


def test_a_lease_is_renewed(small: tuple[Path, str, int], tmp_path: Path) -> None:
    with SweepResults(tmp_path / "r.db", create=True) as found:
        key = found.add(Sweep.from_file(small[0]))
        owner = claims.new_owner()
        assert claims.claim(found.db, owner, key, 0.2) is not None
        (before,) = found.db.execute("SELECT max(lease) FROM points").fetchone()
        with claims.Heartbeat(found.path, owner, 0.2):
            time.sleep(0.3)
        (after,) = connect(found.path, create=False).execute("SELECT max(lease) FROM points").fetchone()
    assert after > before + 0.04


class _Losing(Executor):
    """An executor whose cluster goes away after so many tasks."""

    def __init__(self, after: int) -> None:
        self.left = after

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.left -= 1
        if self.left < 0:
            future.set_exception(ConnectionError("the scheduler is gone"))
        else:
            future.set_result(fn(*args, **kwargs))
        return future


def test_a_lost_executor_leaves_a_usable_file(small: tuple[Path, str, int], tmp_path: Path) -> None:
    path, digest, total = small
    with pytest.raises(SweepError, match="the scheduler is gone"):
        run_sweep(path, tmp_path / "r.db", _Losing(3), ahead=1, progress=False)
    with SweepResults(tmp_path / "r.db") as found:
        assert found.counts() == {"done": 9, "open": total - 9}
    with run(path, tmp_path / "r.db") as found:
        assert found.digest() == digest


@pytest.mark.parametrize("options", [{"threads": 0}, {"lease": 0}, {"ahead": -1}, {"workers": 2}])
def test_options_are_checked(small: tuple[Path, str, int], tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="run_sweep"):
        run(small[0], tmp_path / "r.db", **options)


# -- killed, interrupted, elsewhere ------------------------------------------------------------------------------------


def test_a_killed_sweep_goes_on(small: tuple[Path, str, int], tmp_path: Path) -> None:
    path, digest, total = small
    results = tmp_path / "r.db"
    run_killed([*SCRIPT, str(path), str(results), "threads"], results, total, kills=2, seed=1)
    with SweepResults(results) as found:
        assert (found.digest(), len(found)) == (digest, total)


def test_the_command_line_on_processes_and_ctrl_c(small: tuple[Path, str, int], tmp_path: Path) -> None:
    path, digest, total = small
    results = tmp_path / "r.db"
    words = [str(path), "--out", str(results), "--workers", "1", "--ahead", "1"]
    runner = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not finished(results) and runner.poll() is None:
        time.sleep(0.01)
    runner.send_signal(signal.SIGINT)
    _, said = runner.communicate(timeout=60)
    if runner.returncode == 130:
        assert f"results are in {results}" in said
        with SweepResults(results) as found:
            assert set(found.counts()) <= {"done", "open"}
    else:
        assert runner.returncode == 0, said  # so fast that it was done before the signal
    again = CliRunner().invoke(app, ["sweep", *words[:-2], "--export", str(tmp_path / "r.csv")])
    assert again.exit_code == 0, again.output
    assert digest[:16] in again.stdout
    assert len(pandas.read_csv(tmp_path / "r.csv")) == total


def test_what_did_not_fail_is_exported(tmp_path: Path) -> None:
    write_sweep(tmp_path)
    save_file({"w": torch.full((4, 4), float("nan"))}, tmp_path / "broken.safetensors")
    spec = StorageSpec.from_dict({"device": "awgn/20", **QUICK})
    models = {name: SweepModel(weights=str(tmp_path / f"{name}.safetensors")) for name in ("broken", "net")}
    sweep = Sweep(models=models, specs={"plain": spec}, times=[0], seeds=2, baselines=[])
    (tmp_path / "sweep.json").write_text(json.dumps(sweep.to_dict()), encoding="utf-8")
    results, table = str(tmp_path / "r.db"), tmp_path / "r.csv"
    words = ["sweep", str(tmp_path / "sweep.json"), "--out", results, "--workers", "1", "--export", str(table)]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 2
    assert "2 arrays failed" in found.stderr
    assert set(pandas.read_csv(table)["model"]) == {"net"}
    refused = CliRunner().invoke(app, ["report", results, "--at-least", "nan"])
    assert refused.exit_code == 2
    assert "finite" in refused.stderr


def test_the_command_line_names_what_is_missing(small: tuple[Path, str, int], tmp_path: Path) -> None:
    for words, message in (
        (["--executor", "slurm"], "no executor is called 'slurm'"),
        (["--export", str(tmp_path / "no" / "r.csv")], "there is no folder"),
        (["--export", str(tmp_path / "r.foo")], "exported as .csv, .parquet, .json"),
    ):
        found = CliRunner().invoke(app, ["sweep", str(small[0]), "--out", str(tmp_path / "r.db"), *words])
        assert found.exit_code == 2
        assert message in found.stderr


@needs("distributed")
def test_dask_gives_the_same_bits(small: tuple[Path, str, int], tmp_path: Path) -> None:
    path, digest, total = small
    subprocess.run([*SCRIPT, str(path), str(tmp_path / "r.db"), "dask"], check=True, timeout=300)
    with SweepResults(tmp_path / "r.db") as found:
        assert (found.digest(), len(found)) == (digest, total)


@needs("mpi4py")
@pytest.mark.skipif(sweep_runs.mpiexec() is None, reason="there is no mpiexec")
def test_two_ranks_give_the_same_bits(small: tuple[Path, str, int], tmp_path: Path) -> None:
    path, digest, total = small
    words = ["-m", "memristore", "sweep", str(path), "--out", str(tmp_path / "r.db"), "--executor", "mpi"]
    subprocess.run([*(sweep_runs.mpiexec() or []), *words], check=True, timeout=300)
    with SweepResults(tmp_path / "r.db") as found:
        assert (found.digest(), len(found)) == (digest, total)
