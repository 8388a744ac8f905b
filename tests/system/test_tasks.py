"""Tasks: data, training, pruning and the cache of trained networks."""

from __future__ import annotations

import gzip
import logging
import os
import struct
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from memristore.errors import DataError, SpecError
from memristore.evaluate import tasks
from memristore.evaluate.tasks.cache import cache_folder, cached
from memristore.evaluate.tasks.data import Images, TaskData
from memristore.evaluate.tasks.lenet import LeNet5
from memristore.evaluate.tasks.mnist import Mnist, find_files, read_idx
from memristore.evaluate.tasks.recipe import Recipe
from memristore.evaluate.tasks.training import generator_for, train, trained_lenet5

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
QUICK = Recipe(size=8, epochs=2, batch=64, rate=0.005, rotate=0.1, stretch=0.1, shift=0.5)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> TaskData:
    """The real task; the folder is shared by all files of tests, so that training happens once."""
    return tasks.get("digits").load(cache_dir=tmp_path_factory.getbasetemp() / "networks", progress=False)


@pytest.mark.parametrize(
    ("share", "held"), [(0.3, [3, 6, 9]), (0.5, [1, 3, 5, 7, 9]), (0.95, [1, 2, 3, 4, 5, 6, 7, 8, 9])]
)
def test_images_are_held_out_at_equal_distances(share: float, held: list[int]) -> None:
    images = Images(torch.arange(10.0).reshape(10, 1, 1, 1), torch.arange(10))
    some, rest = images.split(share)
    assert some.labels.tolist() == held
    assert sorted(some.labels.tolist() + rest.labels.tolist()) == list(range(10))
    assert torch.equal(some.images.reshape(-1), some.labels.float())


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 2.0, 0.05, float("nan"), float("inf")])
def test_both_parts_have_images(share: float) -> None:
    with pytest.raises(SpecError, match="without any"):
        Images(torch.zeros(10, 1, 1, 1), torch.arange(10)).split(share)


def parameters(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_names() -> None:
    assert tasks.names() == ["cifar10", "digits", "imagenet", "mnist"]
    for name in tasks.names():
        assert tasks.get(name).name == name
    with pytest.raises(SpecError, match="'letters'; there are cifar10, digits, imagenet, mnist"):
        tasks.get("letters")


def test_lenet_sizes() -> None:
    assert sum(p.numel() for p in LeNet5(28).parameters()) == 61_706
    assert sum(p.numel() for p in LeNet5(8).parameters()) == 21_386
    assert list(LeNet5(8).state_dict()) == list(LeNet5(28).state_dict())
    assert LeNet5(28)(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert LeNet5(8)(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    with pytest.raises(SpecError, match="8 or 28"):
        LeNet5(32)


def test_digits(digits: TaskData) -> None:
    assert digits.test_samples == 596
    assert len(digits.train) == 1201
    assert not digits.model.training
    assert digits.metric(digits.model) >= 0.98
    # Stratified: every class is a tenth of the test set, within two images.
    counts = torch.bincount(digits.test.labels, minlength=10)
    assert int(counts.max()) - int(counts.min()) <= 4
    joined = torch.cat([digits.train.images, digits.test.images])
    assert abs(float(joined.mean())) < 0.01
    assert abs(float(joined.std()) - 1) < 0.01


def test_digits_come_from_the_cache(digits: TaskData, caplog: pytest.LogCaptureFixture) -> None:
    again = tasks.get("digits").load(cache_dir=digits.cache_dir, progress=False)
    assert equal(parameters(again.model), parameters(digits.model))
    assert again.model is not digits.model
    assert not caplog.records


def test_pruned_digits(digits: TaskData) -> None:
    before = parameters(digits.model)
    pruned = tasks.pruned_model(digits, 0.9, progress=False)
    assert equal(parameters(digits.model), before)
    weights = torch.cat([p.detach().flatten() for p in pruned.parameters() if p.ndim > 1])
    assert int((weights == 0).sum()) == round(0.9 * weights.numel())
    assert not pruned.training
    assert digits.metric(pruned) >= digits.metric(digits.model) - 0.01
    assert equal(parameters(tasks.pruned_model(digits, 0.9, progress=False)), parameters(pruned))
    with pytest.raises(SpecError, match=r"\[0, 1\)"):
        tasks.pruned_model(digits, 1.0)


def test_metric_leaves_the_mode_alone(digits: TaskData) -> None:
    model = LeNet5(8).train()
    value = digits.metric(model)
    assert model.training
    assert 0 <= value <= 1
    assert digits.metric.unit == "fraction"


def test_training_is_reproducible_and_leaves_no_trace(digits: TaskData, tmp_path: Path) -> None:
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()

    def run(folder: str, seed: int) -> dict[str, torch.Tensor]:
        model = trained_lenet5("quick", digits.train, QUICK, seed, "data", str(tmp_path / folder), progress=False)
        return parameters(model)

    first = run("a", 0)
    torch.manual_seed(6)
    assert equal(run("b", 0), first)
    assert not equal(run("c", 1), first)
    torch.manual_seed(5)
    assert torch.equal(torch.get_rng_state(), state)
    run("d", 2)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_training_improves(digits: TaskData) -> None:
    model = LeNet5(8)
    before = digits.metric(model)
    train(model, digits.train, QUICK, generator_for(0, "test"), epochs=3, rate=0.005, progress=False)
    assert digits.metric(model) > max(before + 0.2, 0.5)


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEMRISTORE_CACHE", str(tmp_path / "own"))
    assert cache_folder("given") == Path("given")
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("MEMRISTORE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME" if os.name != "nt" else "LOCALAPPDATA", str(tmp_path))
    assert cache_folder() == tmp_path / "memristore"


def small(value: float) -> nn.Module:
    model = nn.Linear(3, 2)
    nn.init.constant_(model.weight, value)
    nn.init.zeros_(model.bias)
    return model


def make_cached(folder: Path, value: float) -> float:
    """The weight of the network that the cache returns, if `value` is what training would give."""
    model = cached("small", {"recipe": 1}, lambda: small(0), lambda: small(value), folder)
    return float(model.get_parameter("weight").detach()[0, 0])


def test_cache_keeps(tmp_path: Path) -> None:
    assert make_cached(tmp_path, 1.0) == 1.0
    assert make_cached(tmp_path, 2.0) == 1.0
    cached("small", {"recipe": 2}, lambda: small(0), lambda: small(3), tmp_path)
    assert len(list(tmp_path.glob("small-*.safetensors"))) == 2
    assert not list(tmp_path.glob("*.part"))


def flip(data: bytes) -> bytes:
    return data[:-2] + bytes([data[-2] ^ 0x10]) + data[-1:]


@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: data[:40], lambda data: data[:-4], flip, lambda data: b"not a network" * 20],
    ids=["empty", "header cut", "data cut", "bit flipped", "foreign"],
)
def test_a_damaged_cache_is_trained_again(tmp_path: Path, damage: object, caplog: pytest.LogCaptureFixture) -> None:
    make_cached(tmp_path, 1.0)
    (path,) = tmp_path.glob("*.safetensors")
    assert callable(damage)
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING, "memristore"):
        assert make_cached(tmp_path, 2.0) == 2.0
    assert str(path) in caplog.text
    assert "damaged" in caplog.text
    assert make_cached(tmp_path, 3.0) == 2.0


def test_a_cache_of_another_shape_is_trained_again(tmp_path: Path) -> None:
    make_cached(tmp_path, 1.0)
    model = cached("small", {"recipe": 1}, lambda: nn.Linear(4, 2), lambda: nn.Linear(4, 2), tmp_path)
    assert model.get_parameter("weight").shape == (2, 4)


def test_a_cache_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    assert make_cached(tmp_path / "file" / "below", 1.0) == 1.0
    assert "MEMRISTORE_CACHE" in caplog.text


def idx(array: np.ndarray) -> bytes:
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(folder: Path, compressed: bool = True, n: int = 40) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    labels = np.arange(n, dtype=np.uint8) % 10
    images = np.zeros((n, 28, 28), np.uint8)
    for row, label in enumerate(labels):
        images[row, 2 * label + 2 : 2 * label + 8, 6:22] = 250
    for name in NAMES:
        data = idx(images if "idx3" in name else labels)
        path = folder / (name + (".gz" if compressed else ""))
        path.write_bytes(gzip.compress(data) if compressed else data)


@pytest.mark.parametrize("below", ["", "MNIST/raw", "raw", "mnist"])
@pytest.mark.parametrize("compressed", [True, False], ids=["gz", "plain"])
def test_mnist_folders(tmp_path: Path, below: str, compressed: bool) -> None:
    write_mnist(tmp_path / below, compressed)
    found = find_files(tmp_path)
    assert [path.name.removesuffix(".gz") for path in found] == list(NAMES)
    assert read_idx(found[0]).shape == (40, 28, 28)


class QuickMnist(Mnist):
    recipe: ClassVar[Recipe] = Recipe(size=28, epochs=1, batch=20, rate=0.005)


def test_mnist_loads(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    data = QuickMnist().load(tmp_path, cache_dir=tmp_path / "cache", progress=False)
    assert data.test_samples == 40
    assert data.train.images.shape == (40, 1, 28, 28)
    assert float(data.train.images.min()) == pytest.approx(-0.1307 / 0.3081, rel=1e-4)
    assert 0 <= data.metric(data.model) <= 1


def test_mnist_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data folder given"):
        tasks.get("mnist").load()
    with pytest.raises(DataError, match=r"no such folder.*train-images-idx3-ubyte"):
        tasks.get("mnist").load(tmp_path / "nowhere")
    write_mnist(tmp_path / "MNIST" / "raw")
    (tmp_path / "MNIST" / "raw" / f"{NAMES[3]}.gz").unlink()
    with pytest.raises(DataError, match=r"raw: t10k-labels-idx1-ubyte\[\.gz\]\. Put the four"):
        tasks.get("mnist").load(tmp_path)


IMAGES = idx(np.zeros((4, 28, 28), np.uint8))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x", b"", "not an idx file"),
        ("x", b"\x89PNG" + IMAGES, "not an idx file"),
        ("x", IMAGES[:-1], "3135 bytes of data"),
        ("x", IMAGES + b"0", "3137 bytes of data"),
        ("x", IMAGES[:9], "0 bytes of data"),
        ("x.gz", IMAGES, "cannot be read"),
        ("x.gz", gzip.compress(IMAGES)[:-9], "cannot be read"),
    ],
    ids=["empty", "foreign", "short", "long", "cut header", "not gzip", "cut gzip"],
)
def test_mnist_damaged(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_idx(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (NAMES[0], np.zeros((40, 8, 8), np.uint8), "28x28"),
        (NAMES[1], np.zeros(39, np.uint8), "do not match"),
        (NAMES[3], np.full(40, 10, np.uint8), "0 to 9"),
    ],
    ids=["size", "count", "label"],
)
def test_mnist_that_does_not_fit(tmp_path: Path, name: str, array: np.ndarray, message: str) -> None:
    write_mnist(tmp_path, compressed=False)
    (tmp_path / name).write_bytes(idx(array))
    with pytest.raises(DataError, match=message):
        tasks.get("mnist").load(tmp_path)


# The data set itself, where it lies beside the repository or where MEMRISTORE_MNIST says.
MNIST = Path(os.environ.get("MEMRISTORE_MNIST", Path(__file__).parents[3] / "shared" / "data" / "mnist"))


@pytest.mark.skipif(not MNIST.is_dir(), reason=f"no MNIST in {MNIST}; set MEMRISTORE_MNIST")
def test_mnist_itself(tmp_path: Path) -> None:
    data = tasks.get("mnist").load(MNIST, cache_dir=tmp_path, progress=False)
    assert data.test_samples == 10_000
    assert data.metric(data.model) >= 0.988
