"""Contracts of every compressor in the registry, and what each one promises besides."""

from __future__ import annotations

import copy
import json

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from memristore.compress import Identity, Prune, Quantize, Raw, Unify, compressors, prune_and_finetune
from memristore.errors import SpecError, TensorError
from memristore.streams import AnalogStream, BitStream, Payload, Stream
from memristore.transform import Compressor, Context

F32 = npt.NDArray[np.float32]
_RNG = np.random.default_rng(0)

VECTORS: dict[str, F32] = {
    "normal": _RNG.normal(size=(20, 5, 3, 3)).astype(np.float32),
    "laplace": _RNG.laplace(size=(37, 41)).astype(np.float32),
    "vector": _RNG.normal(size=113).astype(np.float32),
    "shifted": _RNG.uniform(5, 6, size=(4, 100)).astype(np.float32),
    "constant": np.full((3, 4), -0.3, np.float32),
    "two-constants": np.repeat(np.float32([[-0.3], [0.7]]), 50, axis=1),
    "ternary": _RNG.choice(np.float32([-0.1, 0, 0.1]), size=(10, 20)),
    "empty": np.zeros((0, 3), np.float32),
    "one": np.array([[-0.25]], np.float32),
    "scalar": np.array(0.5, np.float32),
    "zeros": np.zeros((7, 11), np.float32),
    "negative-zero": np.array([[-0.0, 1.0], [0.0, -2.0]], np.float32),
    "denormal": np.array([[1e-45, -1e-40, 1e-38, 0.0], [3e-45, 0, 0, 1e-44]], np.float32),
    "sparse": np.where(_RNG.random((50, 60)) < 0.9, 0, _RNG.normal(size=(50, 60))).astype(np.float32),
}
LARGE = np.array([[3.4e38, -3.4e38, 1.0, *[0.0] * 37]], np.float32)
PARTS = [
    pytest.param(compressors[name].from_dict({"type": name, **example}), id=f"{name}-{i}")
    for name in compressors.names()
    for i, example in enumerate(getattr(compressors[name], "examples", ({},)))
]


def load(**tensors: F32) -> tuple[Payload, Context]:
    """Streams as a network would give them: flat and read-only."""
    flat = {name: tensor.reshape(-1).copy() for name, tensor in tensors.items()}
    for values in flat.values():
        values.flags.writeable = False
    payload = Payload(AnalogStream(name, values) for name, values in flat.items())
    return payload, Context(shapes={name: tensor.shape for name, tensor in tensors.items()})


def round_trip(part: Compressor, **tensors: F32) -> dict[str, F32]:
    payload, context = load(**tensors)
    decoded = part.decode(part.encode(payload, context), context)
    return {name: decoded.analog(name).values.reshape(tensor.shape) for name, tensor in tensors.items()}


def bits_of(part: Compressor, tensor: F32) -> int:
    payload, context = load(w=tensor)
    return sum(len(stream) for stream in part.encode(payload, context).bit_streams())


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("part", PARTS)
def test_round_trip_is_deterministic_and_leaves_the_input_alone(part: Compressor, vector: str) -> None:
    values = VECTORS[vector]
    payload, context = load(w=values, v=VECTORS["laplace"])
    exact = BitStream.from_bools("buffer", np.array([True, False, True]), "exact")
    payload = Payload([*payload, exact])
    encoded = part.encode(payload, context)
    decoded = part.decode(encoded, context)
    assert list(decoded.streams) == ["w", "v", "buffer"]
    assert decoded.bits("buffer") is exact
    for name, original in (("w", values), ("v", VECTORS["laplace"])):
        back = decoded.analog(name).values
        assert back.dtype == np.float32
        assert back.size == original.size
        # The stated loss differs; none is worse than storing nothing; zeros stay exact zeros where that is promised.
        assert np.linalg.norm(back.astype(float) - original.reshape(-1)) <= np.linalg.norm(original.astype(float))
        assert not part.keeps_zeros or not back[original.reshape(-1) == 0].any()
    for stream, again in zip(encoded, part.encode(payload, context), strict=True):
        assert stream.name == again.name
        if isinstance(stream, AnalogStream):
            assert isinstance(again, AnalogStream)
            assert stream.values.tobytes() == again.values.tobytes()
        else:
            assert isinstance(again, BitStream)
            assert (stream.data.tobytes(), stream.length, stream.kind) == (
                again.data.tobytes(),
                again.length,
                again.kind,
            )


@pytest.mark.parametrize("part", PARTS)
def test_large_values_are_kept_or_refused_by_name(part: Compressor) -> None:
    try:
        back = round_trip(part, big=LARGE)["big"]
    except TensorError as error:
        assert "big" in str(error)  # noqa: PT017
    else:
        assert np.isfinite(back).all()
        if not isinstance(part, Unify):  # which averages magnitudes over blocks
            np.testing.assert_allclose(back[0, :2], LARGE[0, :2], rtol=0.2)


@pytest.mark.parametrize("part", PARTS)
def test_dict_form(part: Compressor) -> None:
    assert compressors.from_dict(json.loads(json.dumps(part.to_dict()))) == part
    with pytest.raises(SpecError, match="unknown key"):
        compressors.from_dict({**part.to_dict(), "no-such-key": 1})


@given(data=st.data())
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("part", PARTS)
def test_damaged_bits_never_raise(part: Compressor, data: st.DataObject) -> None:
    values = VECTORS[data.draw(st.sampled_from(list(VECTORS)))]
    payload, context = load(w=values)
    cut = data.draw(st.booleans())
    out: list[Stream] = []
    for stream in part.encode(payload, context):
        size = data.draw(st.integers(0, len(stream))) if cut else len(stream)
        if isinstance(stream, AnalogStream):
            out.append(AnalogStream(stream.name, stream.values[:size]))
            continue
        packed = stream.data[: (size + 7) // 8].copy()
        for byte in data.draw(st.lists(st.integers(0, packed.size - 1), max_size=8)) if packed.size else ():
            packed[byte] ^= data.draw(st.integers(1, 255))
        out.append(BitStream(stream.name, packed, size, stream.kind))
    decoded = part.decode(Payload(out), context).analog("w").values
    assert decoded.dtype == np.float32
    assert decoded.ndim == 1
    assert decoded.size <= values.size if cut else decoded.size == values.size


def test_identity_passes_the_very_payload() -> None:
    payload, context = load(w=VECTORS["normal"])
    assert Identity().encode(payload, context) is payload
    assert Identity().decode(payload, context) is payload


@given(words=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50))
@settings(max_examples=200, deadline=None)
def test_raw_float32_keeps_every_bit(words: list[int]) -> None:
    values = np.array(words, np.uint32).view(np.float32)
    context = Context(shapes={"w": values.shape})
    back = Raw().decode(Raw().encode(Payload([AnalogStream("w", values)]), context), context).analog("w").values
    np.testing.assert_array_equal(back.view(np.uint32), values.view(np.uint32))


@given(words=st.lists(st.integers(0, 0x7F7F7FFF) | st.integers(0x80000000, 0xFF7F7FFF), min_size=1, max_size=50))
@settings(max_examples=200, deadline=None)
def test_raw_bfloat16_rounds_as_torch_does(words: list[int]) -> None:
    values = np.array(words, np.uint32).view(np.float32)
    back = round_trip(Raw(dtype="bfloat16"), w=values)["w"]
    expected = torch.from_numpy(values.copy()).to(torch.bfloat16).to(torch.float32).numpy()
    np.testing.assert_array_equal(back.view(np.uint32), expected.view(np.uint32))


def test_raw_float16_rounds_and_refuses_what_overflows() -> None:
    values = VECTORS["normal"]
    np.testing.assert_array_equal(round_trip(Raw(dtype="float16"), w=values)["w"], values.astype(np.float16))
    for dtype, limit in (("float16", 65519.0), ("bfloat16", 3.389e38)):
        assert np.isfinite(round_trip(Raw(dtype=dtype), w=np.float32([limit]))["w"]).all()
        with pytest.raises(TensorError, match=r"conv\.weight.*too large"):
            round_trip(Raw(dtype=dtype), **{"conv.weight": np.float32([1, -3.4e38])})


def test_raw_counts_its_bits() -> None:
    assert [bits_of(Raw(dtype=d), VECTORS["vector"]) for d in ("float32", "float16", "bfloat16")] == [3616, 1808, 1808]


@pytest.mark.parametrize("sparsity", [0, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_prune_removes_exactly_the_smallest(sparsity: float, scope: str) -> None:
    tensors = {"a": VECTORS["normal"], "b": 3 * VECTORS["laplace"], "bias": VECTORS["vector"]}
    back = round_trip(Prune(sparsity=sparsity, scope=scope), **tensors)
    np.testing.assert_array_equal(back["bias"], tensors["bias"])
    for group in (["a", "b"],) if scope == "global" else (["a"], ["b"]):
        before = np.concatenate([tensors[k].reshape(-1) for k in group])
        after = np.concatenate([back[k].reshape(-1) for k in group])
        count = round(sparsity * before.size)
        assert np.count_nonzero(after == 0) == count
        np.testing.assert_array_equal(after[after != 0], before[after != 0])
        if count:
            assert np.abs(before[after == 0]).max() <= np.abs(before[after != 0]).min()


def test_prune_breaks_ties_by_position_and_counts_zeros() -> None:
    back = round_trip(Prune(sparsity=0.5), w=np.float32([[1, -1, 0, 2, 1, -1]]))["w"]
    np.testing.assert_array_equal(back, [[0, 0, 0, 2, 1, -1]])
    np.testing.assert_array_equal(round_trip(Prune(sparsity=0.5, minimum_dim=1), w=np.float32([3, 1]))["w"], [3, 0])


@pytest.mark.parametrize("bits", range(2, 17))
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("axis", ["tensor", "channel"])
def test_quantize_error_is_half_a_step(bits: int, symmetric: bool, axis: str) -> None:
    for values in (VECTORS["laplace"], VECTORS["shifted"], VECTORS["sparse"], VECTORS["denormal"]):
        part = Quantize(bits=bits, axis=axis, symmetric=symmetric)
        back = round_trip(part, w=values)["w"].astype(np.float64)
        rows = values.reshape(len(values) if axis == "channel" else 1, -1).astype(np.float64)
        span = 2 * np.abs(rows).max(axis=1) if symmetric else np.ptp(rows, axis=1)
        step = span / (2**bits - (2 if symmetric else 1))
        error = np.abs(back.reshape(rows.shape) - rows)
        if bits > 4:
            # Rounding of scale, minimum and result to float32, each relative to the largest value; denormal ones.
            slack = 4 * 2.0**-24 * np.abs(rows).max(axis=1) + 3e-45
            assert (error <= (step / 2 + slack)[:, None]).all()
        else:
            # The clipping point is searched: never worse than without, in the mean over a group.
            assert (np.square(error).mean(axis=1) <= np.square(step + 1e-44) / 3).all()


def test_quantize_packs_exactly() -> None:
    values = VECTORS["laplace"]
    for bits in range(2, 17):
        assert bits_of(Quantize(bits=bits), values) == bits * values.size + 32
    assert bits_of(Quantize(bits=8, axis="channel"), values) == 8 * values.size + 32 * 37
    assert bits_of(Quantize(bits=8, axis="channel", symmetric=False), values) == 8 * values.size + 64 * 37
    assert bits_of(Quantize(bits=8, axis="channel"), VECTORS["vector"]) == 8 * 113 + 32


@pytest.mark.parametrize("bits", [2, 3, 4, 8, 16])
@pytest.mark.parametrize("symmetric", [True, False])
def test_quantize_keeps_constants_exact(bits: int, symmetric: bool) -> None:
    for vector in ("constant", "zeros", "one", "scalar", "empty"):
        back = round_trip(Quantize(bits=bits, symmetric=symmetric), w=VECTORS[vector])["w"]
        np.testing.assert_array_equal(back, VECTORS[vector])
    back = round_trip(Quantize(bits=bits, symmetric=symmetric, axis="channel"), w=VECTORS["two-constants"])["w"]
    np.testing.assert_array_equal(back, VECTORS["two-constants"])
    if symmetric:
        np.testing.assert_array_equal(round_trip(Quantize(bits=bits), w=VECTORS["ternary"])["w"], VECTORS["ternary"])


def test_quantize_searches_the_clipping_point() -> None:
    # n = 200 000 normals; optimal uniform quantisers (Max 1960): MSE 0.1902 (3 levels), 0.01154 (16 levels) and for
    # the asymmetric grids, which have 2**bits levels, 0.1188 (4 levels). Allowed: 3 % for 24 candidates.
    values = np.random.default_rng(5).normal(size=(2, 100_000)).astype(np.float32)
    for part, best in (
        (Quantize(bits=2), 0.1902),
        (Quantize(bits=2, symmetric=False), 0.1188),
        (Quantize(bits=4, symmetric=False), 0.01154),
        (Quantize(bits=4, symmetric=False, axis="channel"), 0.01154),
    ):
        error = np.mean(np.square(round_trip(part, w=values)["w"] - values))
        assert error == pytest.approx(best, rel=0.03)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_pruned_zeros_survive_quantisation(bits: int, sparse: bool, symmetric: bool) -> None:
    values = VECTORS["laplace"] + np.float32(0.5)
    payload, context = load(w=values)
    prune, quantize = Prune(sparsity=0.8), Quantize(bits=bits, symmetric=symmetric, sparse=sparse, axis="channel")
    pruned = prune.encode(payload, context)
    back = quantize.decode(quantize.encode(pruned, context), context).analog("w").values
    zero = pruned.analog("w").values == 0
    assert np.count_nonzero(zero) == round(0.8 * values.size)
    assert not back[zero].any()


def test_sparse_codes_take_fewer_bits_and_mean_the_same() -> None:
    values = VECTORS["sparse"]
    dense, sparse = Quantize(bits=8), Quantize(bits=8, sparse=True)
    np.testing.assert_array_equal(round_trip(dense, w=values)["w"], round_trip(sparse, w=values)["w"])
    assert bits_of(sparse, values) < 0.2 * bits_of(dense, values)
    assert bits_of(sparse, VECTORS["laplace"]) <= bits_of(dense, VECTORS["laplace"])


def test_quantize_names_the_stream_it_cannot_take() -> None:
    with pytest.raises(TensorError, match="big"):
        round_trip(Quantize(bits=8, symmetric=False), big=LARGE)
    with pytest.raises(TensorError, match="odd"):
        Quantize(bits=8).encode(Payload([AnalogStream("odd", np.ones(5, np.float32))]), Context(shapes={"odd": (2, 3)}))


class Small(nn.Module):
    """Two linear layers and a tied one; the recurrent layer keeps private references to its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.tied = nn.Linear(8, 8)
        self.tied.weight = self.first.weight
        self.recurrent = nn.GRU(8, 16, batch_first=True)
        self.last = nn.Linear(16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out, _ = self.recurrent(torch.tanh(self.tied(torch.tanh(self.first(x)))))
        result: torch.Tensor = self.last(out[:, -1])
        return result


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_prune_and_finetune(scope: str) -> None:
    torch.manual_seed(0)
    model = Small()
    before = copy.deepcopy(model.state_dict())
    x = torch.randn(64, 3, 8)
    y = x.sum(dim=(1, 2), keepdim=False)[:, None] / 5
    prune = Prune(sparsity=0.75, scope=scope)
    seen: list[float] = []
    steps: list[int] = []

    def loss(net: nn.Module) -> torch.Tensor:
        return nn.functional.mse_loss(net(x), y)

    def zeros(net: nn.Module) -> int:
        return sum(int((p == 0).sum()) for p in net.parameters() if p.dim() >= 2)

    def finetune(net: nn.Module, step: int) -> None:
        steps.append(step)
        held = zeros(net)
        optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
        for _ in range(40):
            optimiser.zero_grad()
            loss(net).backward()
            optimiser.step()
        assert zeros(net) == held  # removed weights stay removed while training goes on
        seen.append(float(loss(net).detach()))

    pruned = prune_and_finetune(model, prune, finetune, steps=4)
    assert steps == [1, 2, 3, 4]
    assert seen[-1] < float(loss(model).detach())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert set(pruned.state_dict()) == set(before)
    assert isinstance(pruned, Small)
    assert pruned.tied.weight is pruned.first.weight
    total = sum(p.numel() for p in pruned.parameters() if p.dim() >= 2)
    assert zeros(pruned) == pytest.approx(0.75 * total, abs=3)
    # Storing the result with the same recipe changes nothing more.
    tensors = {name: p.detach().numpy() for name, p in pruned.named_parameters()}
    for name, value in round_trip(prune, **tensors).items():
        np.testing.assert_array_equal(value, tensors[name])
    loss(pruned).backward()
    gradient = pruned.first.weight.grad
    assert gradient is not None
    assert gradient.count_nonzero() == gradient.numel()  # no hook is left behind


def test_prune_and_finetune_reapplies_masks_and_handles_half_precision() -> None:
    model = nn.Linear(10, 10).to(torch.bfloat16)

    def spoil(net: nn.Module, step: int) -> None:
        with torch.no_grad():
            for p in net.parameters():
                p.add_(1.0)

    pruned = prune_and_finetune(model, Prune(sparsity=0.9), spoil, steps=1)
    assert isinstance(pruned, nn.Linear)
    assert int((pruned.weight == 0).sum()) == 90
    with pytest.raises(SpecError, match="to prune"):
        prune_and_finetune(nn.BatchNorm1d(3), Prune(sparsity=0.5), spoil)
    with pytest.raises(SpecError, match="steps"):
        prune_and_finetune(model, Prune(sparsity=0.5), spoil, steps=0)


@pytest.mark.parametrize(
    "data",
    [
        {"type": "raw", "dtype": "float8"},
        {"type": "prune", "sparsity": 1.0},
        {"type": "prune", "sparsity": -0.1},
        {"type": "prune", "sparsity": 0.5, "scope": "model"},
        {"type": "quantize", "bits": 1},
        {"type": "quantize", "bits": 17},
        {"type": "quantize", "bits": 8.0},
        {"type": "quantize", "bits": 8, "axis": "row"},
        {"type": "quantize", "bits": 8, "sparse": 1},
        {"type": "no-such-compressor"},
    ],
)
def test_bad_settings_are_refused(data: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        compressors.from_dict(data)
