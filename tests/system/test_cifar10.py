"""The task cifar10: file formats, errors, network; with the data set itself where it is."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from memristore.errors import DataError, SpecError
from memristore.evaluate import tasks
from memristore.evaluate.tasks import Cifar10, cifar_files
from memristore.evaluate.tasks.cifar_files import read_part
from memristore.evaluate.tasks.resnet import CifarResNet
from memristore.evaluate.weights import write_weights

# The data set itself and trained weights, where they lie beside the repository or where MEMRISTORE_CIFAR10 says.
DATA = Path(os.environ.get("MEMRISTORE_CIFAR10", Path(__file__).parents[3] / "shared" / "data"))


def images(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 32, 32, 3)).astype(np.uint8), rng.integers(0, 10, n).astype(np.uint8)


def write_sheets(folder: Path, part: str, pixels: np.ndarray, labels: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    for k in range(len(pixels) // 1000):
        tiles = pixels[1000 * k : 1000 * (k + 1)].reshape(25, 40, 32, 32, 3)
        sheet = Image.fromarray(tiles.transpose(0, 2, 1, 3, 4).reshape(800, 1280, 3))
        sheet.save(folder / f"{part}_{k:02d}.webp", lossless=True, method=0, quality=0)
    labels.tofile(folder / f"{part}_labels.bin")


def write_batch(path: Path, pixels: np.ndarray, labels: np.ndarray) -> None:
    flat = pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".bin":
        np.concatenate([labels[:, None], flat], 1).tofile(path)
    else:
        path.write_bytes(pickle.dumps({b"data": flat, b"labels": labels.tolist()}, protocol=2))


def test_all_formats_give_the_same_images(tmp_path: Path) -> None:
    pixels, labels = images(10_000)
    (tmp_path / "binary").mkdir()
    (tmp_path / "python").mkdir()
    write_batch(tmp_path / "binary" / "cifar-10-batches-bin" / "test_batch.bin", pixels, labels)
    write_batch(tmp_path / "python" / "cifar-10-batches-py" / "test_batch", pixels, labels)
    write_sheets(tmp_path / "sheets", "test", pixels[:2000], labels[:2000])
    for folder in ("binary", "python", "sheets"):
        found, classes = read_part(tmp_path / folder, "test", 1500)
        assert np.array_equal(found, pixels[:1500])
        assert np.array_equal(classes, labels[:1500])
    with pytest.raises(DataError, match=r"test_02.webp: is missing"):
        read_part(tmp_path / "sheets", "test", 2001)
    with pytest.raises(DataError, match="no train images"):
        read_part(tmp_path / "binary", "train")
    write_batch(tmp_path / "binary" / "cifar-10-batches-bin" / "data_batch_1.bin", pixels, labels)
    with pytest.raises(DataError, match=r"data_batch_2.bin: is missing"):
        read_part(tmp_path / "binary", "train", 10_001)


def test_files_that_are_damaged(tmp_path: Path) -> None:
    pixels, labels = images(1000)
    with pytest.raises(DataError, match="no data folder given"):
        tasks.get("cifar10").load()
    with pytest.raises(DataError, match=r"there is no such folder.*Fetch CIFAR-10"):
        tasks.get("cifar10").load(tmp_path / "absent")
    (tmp_path / "test_batch.bin").write_bytes(b"123")
    with pytest.raises(DataError, match="3 bytes; a batch has 30730000"):
        read_part(tmp_path, "test")
    (tmp_path / "test_batch.bin").unlink()
    for content in (pickle.dumps(os.getcwd), pickle.dumps({b"data": 3}), b"\x80", pickle.dumps([1])):
        (tmp_path / "test_batch").write_bytes(content)
        with pytest.raises(DataError, match="not a batch of CIFAR-10"):
            read_part(tmp_path, "test")
    (tmp_path / "test_batch").unlink()
    write_sheets(tmp_path, "test", pixels, labels)
    (tmp_path / "test_labels.bin").write_bytes(b"\x00" * 999)
    with pytest.raises(DataError, match="999 labels"):
        read_part(tmp_path, "test", 1000)
    (tmp_path / "test_labels.bin").write_bytes(b"\x0a" * 1000)
    with pytest.raises(DataError, match="labels are 0 to 9, found 10"):
        read_part(tmp_path, "test", 1000)
    Image.new("RGB", (40, 30)).save(tmp_path / "test_00.webp")
    with pytest.raises(DataError, match="this image 40x30"):
        read_part(tmp_path, "test", 1000)
    (tmp_path / "test_00.webp").write_bytes(b"no image")
    with pytest.raises(DataError, match="cannot be read as an image"):
        read_part(tmp_path, "test", 1000)


def test_the_network() -> None:
    assert sum(p.numel() for p in CifarResNet(20).parameters()) == 269_722
    assert sum(p.numel() for p in CifarResNet(32).parameters()) == 464_154
    assert CifarResNet(8, classes=7)(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    for depth in (19, 2, True, "20"):
        with pytest.raises(SpecError, match=r"6n \+ 2"):
            CifarResNet(depth)
    for settings in ({"train": 0}, {"test": 10_001}):
        with pytest.raises(SpecError, match="number of images"):
            Cifar10(**settings)


def test_a_task_of_files(tmp_path: Path) -> None:
    for part, seed in (("train", 1), ("test", 2)):
        write_sheets(tmp_path / "cifar10", part, *images(1000, seed))
    state = torch.get_rng_state()
    with pytest.raises(DataError, match=r"no trained weights in .*cifar10_resnet8.safetensors"):
        Cifar10(depth=8, train=50, test=40).load(tmp_path)
    torch.manual_seed(0)
    network = CifarResNet(8)
    torch.set_rng_state(state)
    (tmp_path / "models").mkdir()
    path = tmp_path / "models" / "cifar10_resnet8.safetensors"
    write_weights({f"module.{name}": tensor for name, tensor in network.state_dict().items()}, path)
    task = Cifar10(depth=8, train=50, test=40).load(tmp_path)
    assert torch.equal(state, torch.get_rng_state())
    assert (len(task.train), task.test_samples) == (50, 40)
    assert task.test.images.shape == (40, 3, 32, 32)
    pixel = float(images(1000, 2)[0][3, 5, 7, 1])
    assert float(task.test.images[3, 1, 5, 7]) == pytest.approx((pixel / 255 - 0.456) / 0.224, rel=1e-5)
    assert 0 <= task.metric(task.model) <= 1
    assert Cifar10(depth=8, weights=path, train=50, test=40).load(tmp_path).checksum == task.checksum
    with pytest.raises(DataError, match="does not hold the weights of a ResNet-14"):
        Cifar10(depth=14, weights=path).network()
    with pytest.raises(DataError, match="there is no such file"):
        Cifar10(weights=tmp_path / "none.pt").network()


@pytest.mark.skipif(
    not (DATA / "cifar10").is_dir() or not (DATA / "models").is_dir(),
    reason=f"no CIFAR-10 with trained weights in {DATA}; set MEMRISTORE_CIFAR10 to a folder that holds them",
)
def test_cifar10_itself() -> None:
    """ResNet-20 has 91.73 % on all 10,000 images; on the first 600 the standard error is 1.1 points."""
    task = Cifar10(train=1000, test=600).load(DATA)
    assert task.metric(task.model) > 0.88
    assert cifar_files.SIZES["train"] == 50_000
    assert abs(float(task.train.images.mean())) < 0.15
