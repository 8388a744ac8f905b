"""What pruned structures, codebooks, groups and successive refinement promise."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from memristore.compress import Codebook, Prune, Quantize, SuRP, prune_and_finetune
from memristore.errors import SpecError
from memristore.limits import Laplacian, rate
from memristore.streams import AnalogStream, BitStream, Payload
from memristore.transform import Compressor, Context

F32 = npt.NDArray[np.float32]
_RNG = np.random.default_rng(0)

VECTORS: dict[str, F32] = {
    "normal": _RNG.normal(size=(20, 5, 3, 3)).astype(np.float32),
    "laplace": _RNG.laplace(size=(37, 41)).astype(np.float32),
    "vector": _RNG.normal(size=113).astype(np.float32),
    "ternary": _RNG.choice(np.float32([-0.1, 0, 0.1]), size=(10, 20)),
    "sparse": np.where(_RNG.random((50, 60)) < 0.9, 0, _RNG.normal(size=(50, 60))).astype(np.float32),
}


def load(**tensors: F32) -> tuple[Payload, Context]:
    payload = Payload(AnalogStream(name, tensor.reshape(-1)) for name, tensor in tensors.items())
    return payload, Context(shapes={name: tensor.shape for name, tensor in tensors.items()})


def round_trip(part: Compressor, **tensors: F32) -> dict[str, F32]:
    payload, context = load(**tensors)
    decoded = part.decode(part.encode(payload, context), context)
    return {name: decoded.analog(name).values.reshape(tensor.shape) for name, tensor in tensors.items()}


def bits_of(part: Compressor, tensor: F32) -> int:
    payload, context = load(w=tensor)
    return sum(len(stream) for stream in part.encode(payload, context).bit_streams())


@pytest.mark.parametrize("structure", ["1:4", "2:4", "4:8", "3:3"])
def test_prune_keeps_the_largest_of_each_group(structure: str) -> None:
    keep, of = map(int, structure.split(":"))
    values = VECTORS["laplace"]  # 37 * 41 values: the last group is incomplete
    back = round_trip(Prune(structure=structure), w=values)["w"].reshape(-1)
    flat = values.reshape(-1)
    for start in range(0, flat.size, of):
        before, after = flat[start : start + of], back[start : start + of]
        kept = np.sort(np.abs(before))[::-1][:keep]
        np.testing.assert_array_equal(np.sort(np.abs(after[after != 0]))[::-1], kept)
        np.testing.assert_array_equal(after[after != 0], before[after != 0])


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("structure", ["channel", "block:6"])
def test_prune_removes_whole_groups_of_least_mean_square(structure: str, scope: str) -> None:
    tensors = {"a": VECTORS["normal"], "b": 3 * VECTORS["laplace"][:36, :40]}
    back = round_trip(Prune(sparsity=0.3, structure=structure, scope=scope), **tensors)
    groups = {k: (v.reshape(len(v), -1) if structure == "channel" else v.reshape(-1, 6)) for k, v in tensors.items()}
    gone = {k: ~back[k].reshape(groups[k].shape).any(axis=1) for k in tensors}
    scores = {k: np.square(groups[k].astype(float)).mean(axis=1) for k in tensors}
    for names in (["a", "b"],) if scope == "global" else (["a"], ["b"]):
        dropped = np.concatenate([gone[k] for k in names])
        score = np.concatenate([scores[k] for k in names])
        assert dropped.sum() == round(0.3 * dropped.size)
        assert score[dropped].max() <= score[~dropped].min()
    for k, drop in gone.items():
        np.testing.assert_array_equal(back[k].reshape(groups[k].shape)[~drop], groups[k][~drop])


def test_prune_structures_are_checked() -> None:
    for bad in ({}, {"sparsity": 0.5, "structure": "2:4"}, {"sparsity": 0.5, "structure": "rows"},
                {"structure": "5:4"}, {"sparsity": 0.5, "structure": "block:0"}):  # fmt: skip
        with pytest.raises(SpecError):
            Prune(**bad)
    with pytest.raises(SpecError, match="structure must be"):
        Prune(structure="0:4")


def test_gradual_pruning_reaches_its_structure() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Flatten(), nn.Linear(64, 10))
    found = prune_and_finetune(model, Prune(structure="2:4"), lambda model, step: None, steps=3)
    for weight in (found[0].weight, found[2].weight):
        assert ((weight.detach().reshape(-1)[: weight.numel() // 4 * 4].reshape(-1, 4) == 0).sum(1) == 2).all()


@pytest.mark.parametrize("step", [0.5, 0.6, 0.85])
def test_surp_improves_with_every_round_and_any_prefix_decodes(step: float) -> None:
    tensors = {"a": VECTORS["normal"], "b": 3 * VECTORS["laplace"], "bias": VECTORS["vector"]}
    part = SuRP(sdr=25.0, step=step)
    payload, context = load(**tensors)
    encoded = part.encode(payload, context)
    whole = sum(s.length for s in encoded.bit_streams())
    errors, zeros = [], []
    for share in np.linspace(0, 1, 12):
        short = part.cut(encoded, int(share * whole))
        assert sum(s.length for s in short.bit_streams()) <= share * whole
        back = part.decode(short, context)
        errors.append(sum(float(np.square(back.analog(k).values - v.reshape(-1)).sum()) for k, v in tensors.items()))
        zeros.append(sum(int((back.analog(k).values == 0).sum()) for k in ("a", "b")))
    assert all(later <= before for before, later in itertools.pairwise(errors))
    assert all(later <= before for before, later in itertools.pairwise(zeros))
    assert zeros[0] == tensors["a"].size + tensors["b"].size
    for name in ("a", "b"):
        v = tensors[name].reshape(-1).astype(float)
        assert 10 * np.log10((v @ v) / np.square(part.decode(encoded, context).analog(name).values - v).sum()) >= 25
    # A stream that ends anywhere decodes to its whole rounds.
    stream = encoded.bits("a/rounds")
    for size in (0, 5, 8, 17, stream.data.size // 2, stream.data.size - 1):
        cut = BitStream(stream.name, stream.data[:size], 8 * size, stream.kind, stream.symbol_bits)
        back = part.decode(Payload([cut]), context).analog("a").values
        assert np.isfinite(back).all()
        assert np.square(back - tensors["a"].reshape(-1)).sum() <= np.square(tensors["a"]).sum()


def test_surp_takes_few_bits() -> None:
    """Laplacian values: within half a bit of R(D) at the ratio reached."""
    values = np.random.default_rng(1).laplace(size=(300, 300)).astype(np.float32)
    back = round_trip(SuRP(sdr=25.0), w=values)["w"].astype(float)
    error = float(np.square(back - values).mean() / values.var(dtype=float))
    assert bits_of(SuRP(sdr=25.0), values) / values.size < rate(Laplacian(), error) + 0.5


def test_codebook_beats_every_uniform_grid_of_as_many_levels() -> None:
    for values in (VECTORS["laplace"], VECTORS["normal"], VECTORS["sparse"]):
        for bits in (2, 3, 4, 6):
            found = [round_trip(part, w=values)["w"] for part in (Codebook(bits=bits), Quantize(bits=bits))]
            errors = [np.square(back.astype(float) - values).sum() for back in found]
            assert errors[0] < errors[1]
            assert np.unique(found[0]).size <= 2**bits
    exact = VECTORS["ternary"]
    np.testing.assert_array_equal(round_trip(Codebook(bits=2), w=exact)["w"], exact)
    assert bits_of(Codebook(bits=3), VECTORS["laplace"]) == 3 * VECTORS["laplace"].size + 32 * 8


def test_codebook_is_a_fixed_point_of_lloyd() -> None:
    """Every level is the mean of its values, every value takes its nearest level; Gaussian, 16 levels: 20.2 dB.

    Figure: J. Max, "Quantizing for minimum distortion", IRE Trans. Inf. Theory 6 (1960), table I.
    """
    values = np.random.default_rng(3).normal(size=(360, 360)).astype(np.float32)
    back = round_trip(Codebook(bits=4), w=values)["w"].astype(float)
    levels, which = np.unique(back, return_inverse=True)
    which = which.reshape(values.shape)
    assert np.abs(np.abs(values[..., None] - levels).argmin(-1) - which).max() == 0
    means = np.array([values[which == k].mean(dtype=float) for k in range(levels.size)])
    np.testing.assert_allclose(means, levels, atol=5e-3)
    assert 10 * np.log10(values.var() / np.square(back - values).mean()) == pytest.approx(20.22, abs=0.05)


@pytest.mark.parametrize("group", [1, 7, 64, 5000])
def test_quantize_has_a_scale_for_each_group(group: int) -> None:
    values = VECTORS["laplace"] * np.exp(np.linspace(0, 5, 37))[:, None].astype(np.float32)
    back = round_trip(Quantize(bits=8, axis="group", group=group), w=values)["w"]
    flat, error = values.reshape(-1), np.abs(back - values).reshape(-1).astype(float)
    for start in range(0, flat.size, group):
        peak = np.abs(flat[start : start + group]).max()
        assert error[start : start + group].max() <= peak / 254 * 1.00001
    groups = -(-flat.size // group)
    assert bits_of(Quantize(bits=8, axis="group", group=group), values) == 8 * flat.size + 32 * groups
    with pytest.raises(SpecError, match="group"):
        Quantize(bits=8, axis="group", group=0)


@pytest.mark.parametrize(("bits", "least"), [(4, 18.5), (8, 40.0)])
def test_codebook_stands_outliers(bits: int, least: float) -> None:
    """Gaussian bulk beside three far values: 20.2 dB with 16 levels, one or two of which the far ones take."""
    bulk = np.random.default_rng(4).normal(size=5000).astype(np.float32) * np.float32(0.02)
    for far in (0.4, 2.0, 50.0):
        values = np.concatenate([bulk, np.full(3, far, np.float32)])
        back = round_trip(Codebook(bits=bits), w=values)["w"].astype(float)
        assert 10 * np.log10(bulk.var() / np.square(back[:5000] - bulk).mean()) > least
    large = np.concatenate([np.tile(bulk, 40), np.float32([50.0])])
    back = round_trip(Codebook(bits=bits), w=large)["w"]
    assert back[-1] == 50.0


def test_surp_reaches_its_ratio_in_small_steps() -> None:
    values = np.random.default_rng(5).normal(size=(100, 200)).astype(np.float32)
    back = round_trip(SuRP(sdr=50.0, step=0.97), w=values)["w"].astype(float)
    assert 10 * np.log10(np.square(values.astype(float)).sum() / np.square(back - values).sum()) >= 50
