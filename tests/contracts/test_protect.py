"""Contracts of every protection in the registry, and what each one promises besides."""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memristore.errors import SpecError
from memristore.masks import decode_mask, encode_mask, fit, merge_parts, pack_codes, unpack_codes
from memristore.protect import AdaptiveRange, Sign, Sparsity, protections
from memristore.streams import AnalogStream, BitStream, Payload, Stream
from memristore.transform import Context, Protection

F32 = npt.NDArray[np.float32]
_RNG = np.random.default_rng(0)
_SPARSE = np.where(_RNG.random(5000) < 0.9, 0, _RNG.normal(size=5000)).astype(np.float32)

VECTORS: dict[str, F32] = {
    "normal": _RNG.normal(size=1000).astype(np.float32),
    "laplace": _RNG.laplace(size=10007).astype(np.float32),
    "positive": np.abs(_RNG.normal(size=333)).astype(np.float32),
    "constant": np.full(200, -1.5, np.float32),
    "empty": np.zeros(0, np.float32),
    "one": np.array([-0.25], np.float32),
    "zeros": np.zeros(1001, np.float32),
    "negative-zero": np.array([-0.0, 1.0, 0.0, -2.0], np.float32),
    "denormal": np.array([1e-45, -1e-40, 1e-38, 0.0] * 20, np.float32),
    "large": np.array([3.4e38, -3.4e38, 1.0, 0.0] * 20, np.float32),
    "sparse": _SPARSE,
    "single-nonzero": np.where(np.arange(70001) == 70000, np.float32(1), np.float32(0)),
}
PARTS = [
    pytest.param(protections[name].from_dict({"type": name, **example}), id=f"{name}-{i}")
    for name in protections.names()
    for i, example in enumerate(getattr(protections[name], "examples", ({},)))
]


def squared_range(sample: F32) -> float:
    """Error of a linear map on a cell with constant noise: proportional to the square of the window."""
    spread = float(sample.max()) - float(sample.min())
    return 1e-3 * spread * spread


def context_for(**values: F32) -> Context:
    return Context(shapes={name: (v.size,) for name, v in values.items()}, distortion=squared_range)


def same_bits(a: Payload, b: Payload) -> bool:
    def raw(stream: Stream) -> tuple[str, bytes]:
        return stream.name, (stream.values if isinstance(stream, AnalogStream) else stream.data).tobytes()

    return [raw(s) for s in a] == [raw(s) for s in b]


def frozen(values: F32) -> F32:
    copy = values.copy()
    copy.flags.writeable = False
    return copy


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("part", PARTS)
def test_round_trip_is_exact_deterministic_and_leaves_the_input_alone(part: Protection, vector: str) -> None:
    values = frozen(VECTORS[vector])
    sensitivity = np.arange(values.size, dtype=np.float32)
    exact = BitStream.from_bools("buffer", np.array([True, False, True]), "exact")
    payload = Payload([AnalogStream("w", values, sensitivity), exact])
    context = context_for(w=values)
    encoded = part.encode(payload, context)
    decoded = part.decode(encoded, context)
    assert list(decoded.streams) == ["w", "buffer"]
    np.testing.assert_array_equal(decoded.analog("w").values, values)
    assert decoded.analog("w").values.dtype == np.float32
    assert decoded.bits("buffer") is exact
    assert same_bits(encoded, part.encode(payload, context))
    assert all(len(s.name.split("/")) <= 2 for s in encoded)
    for stream in encoded.analog_streams():  # sensitivities stay with their values
        assert stream.sensitivity is not None
        index = stream.sensitivity.astype(int)
        if stream.name.endswith("/rest"):  # not a value, but what is left of one
            continue
        np.testing.assert_array_equal(np.abs(stream.values), np.abs(values[index]))


@pytest.mark.parametrize("part", PARTS)
def test_dict_form(part: Protection) -> None:
    assert protections.from_dict(json.loads(json.dumps(part.to_dict()))) == part
    with pytest.raises(SpecError, match="unknown key"):
        protections.from_dict({**part.to_dict(), "no-such-key": 1})


@given(data=st.data())
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("part", PARTS)
def test_damaged_bits_never_raise(part: Protection, data: st.DataObject) -> None:
    values = VECTORS[data.draw(st.sampled_from([v for v in VECTORS if v != "empty"]))]
    context = context_for(w=values)
    damaged, cut = damage(part.encode(Payload([AnalogStream("w", values)]), context), data)
    decoded = part.decode(damaged, context).analog("w").values
    assert decoded.dtype == np.float32
    assert decoded.ndim == 1
    assert decoded.size <= values.size if cut else decoded.size == values.size


def damage(payload: Payload, data: st.DataObject) -> tuple[Payload, bool]:
    """Flip bits, headers included, and sometimes lose the ends of streams."""
    cut = data.draw(st.booleans())
    out: list[Stream] = []
    for stream in payload:
        size = len(stream)
        if cut:
            size = data.draw(st.integers(0, size))
        if isinstance(stream, AnalogStream):
            out.append(AnalogStream(stream.name, stream.values[:size]))
            continue
        packed = stream.data[: (size + 7) // 8].copy()
        if packed.size:
            where = data.draw(st.lists(st.integers(0, packed.size - 1) | st.just(0), max_size=8))
            for byte in where:
                packed[min(byte, packed.size - 1)] ^= data.draw(st.integers(1, 255))
        out.append(BitStream(stream.name, packed, size, stream.kind))
    return Payload(out), cut


@pytest.mark.parametrize("vector", VECTORS)
def test_the_whole_stack_and_twice_the_same(vector: str) -> None:
    values = VECTORS[vector]
    context = context_for(w=values, v=VECTORS["laplace"])
    stack = (Sparsity(when="always"), Sign(), AdaptiveRange(), AdaptiveRange(threshold=0.7), Sign())
    payload = Payload([AnalogStream("w", values), AnalogStream("v", VECTORS["laplace"])])
    for part in stack:
        payload = part.encode(payload, context)
    for part in reversed(stack):
        payload = part.decode(payload, context)
    assert list(payload.streams) == ["w", "v"]
    np.testing.assert_array_equal(payload.analog("w").values, values)


@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_the_whole_stack_survives_damage(data: st.DataObject) -> None:
    values = VECTORS[data.draw(st.sampled_from([v for v in VECTORS if v != "empty"]))]
    context = context_for(w=values)
    stack = (Sparsity(when="always"), Sign(), AdaptiveRange(threshold=0.7))
    payload = Payload([AnalogStream("w", values)])
    for part in stack:
        payload = part.encode(payload, context)
    masked = "w/mask" in payload
    payload, cut = damage(payload, data)
    for part in reversed(stack):
        payload = part.decode(payload, context)
    size = payload.analog("w").values.size
    assert size <= values.size if cut and not masked else size == values.size


def test_sign_takes_one_bit_per_value_and_none_if_all_are_positive() -> None:
    values = VECTORS["normal"]
    encoded = Sign().encode(Payload([AnalogStream("w", values)]), context_for(w=values))
    assert list(encoded.streams) == ["w/magnitude", "w/sign"]
    np.testing.assert_array_equal(encoded.bits("w/sign").to_bools(), values < 0)
    np.testing.assert_array_equal(encoded.analog("w/magnitude").values, np.abs(values))
    positive = Sign().encode(Payload([AnalogStream("w", np.abs(values))]), context_for(w=values))
    assert list(positive.streams) == ["w/magnitude"]


@pytest.mark.parametrize("size", [1, 7, 8, 9, 100_003])
def test_sign_does_not_depend_on_threads(size: int) -> None:
    values = np.random.default_rng(size).normal(size=size).astype(np.float32)
    payloads = [Sign().encode(Payload([AnalogStream("w", values)]), Context(threads=t)) for t in (1, 2)]
    assert same_bits(*payloads)
    back = Sign().decode(payloads[0], Context(threads=2)).analog("w").values
    np.testing.assert_array_equal(back, values)


def test_adaptive_range_splits_at_the_threshold() -> None:
    values = VECTORS["laplace"]
    encoded = AdaptiveRange(threshold=1.3).encode(Payload([AnalogStream("w", values)]), context_for(w=values))
    limit = 1.3 * np.sqrt(np.mean(np.square(values, dtype=np.float64)))
    large = np.abs(values) > limit
    np.testing.assert_array_equal(encoded.bits("w/flag").to_bools(), large)
    np.testing.assert_array_equal(encoded.analog("w/small").values, values[~large])
    np.testing.assert_array_equal(encoded.analog("w/large").values, values[large])
    assert encoded.bits("w/flag").length == values.size


@pytest.mark.parametrize("source", ["normal", "laplace"])
def test_adaptive_range_finds_nearly_the_best_threshold(source: str) -> None:
    draw = getattr(np.random.default_rng(1), source)
    values = np.abs(draw(size=20000)).astype(np.float32)
    encoded = AdaptiveRange().encode(Payload([AnalogStream("w", values)]), context_for(w=values))
    small, large = encoded.analog("w/small").values, encoded.analog("w/large").values

    def error(small: F32, large: F32) -> float:
        return (small.size * squared_range(small) + large.size * squared_range(large)) / values.size

    limits = np.quantile(values, np.linspace(0.01, 0.999, 400))
    best = min(error(values[values <= limit], values[values > limit]) for limit in limits)
    # Candidates are a factor 1.45 apart in share; a flat optimum loses less than 10 % by that.
    assert error(small, large) < 1.1 * best
    assert error(small, large) < 0.5 * squared_range(values)


def test_adaptive_range_passes_what_gains_nothing() -> None:
    for values in (np.full(1000, 2.0, np.float32), VECTORS["normal"][:63], np.repeat(np.float32([1, -1]), 500)):
        payload = Payload([AnalogStream("w", values)])
        assert list(AdaptiveRange().encode(payload, context_for(w=values)).streams) == ["w"]
    flat = Context(distortion=lambda sample: 1.0)
    assert list(AdaptiveRange().encode(Payload([AnalogStream("w", VECTORS["laplace"])]), flat).streams) == ["w"]


def test_sparsity_saves_cells_when_it_says_so() -> None:
    rng = np.random.default_rng(2)
    taken = []
    for share in (0.3, 0.5, 0.7, 0.75, 0.8, 0.85, 0.9, 0.99):
        values = np.where(rng.random(20000) < share, 0, rng.normal(size=20000)).astype(np.float32)
        encoded = Sparsity().encode(Payload([AnalogStream("w", values)]), context_for(w=values))
        cells = sum(len(s) if isinstance(s, AnalogStream) else len(s) * 1.125 for s in encoded)
        taken.append("w/mask" in encoded)
        assert cells < values.size if taken[-1] else cells == values.size
    assert taken == [False, False, False, False, False, True, True, True]


def test_sparsity_chooses_the_smaller_mask_and_stays_near_the_entropy() -> None:
    rng = np.random.default_rng(3)
    for share in (0.5, 0.9, 0.99):
        values = np.where(rng.random(100_000) < share, 0, 1).astype(np.float32)
        context = context_for(w=values)
        mask = Sparsity(when="always").encode(Payload([AnalogStream("w", values)]), context).bits("w/mask")
        entropy = -share * np.log2(share) - (1 - share) * np.log2(1 - share)
        # Fixed-width gap codes of a geometric source lose less than a quarter against its entropy.
        assert mask.length <= min(values.size + 8, 1.25 * entropy * values.size + 72)


def test_zeros_come_back_exact_when_the_values_are_noisy() -> None:
    values = VECTORS["sparse"]
    context = context_for(w=values)
    encoded = Sparsity().encode(Payload([AnalogStream("w", values)]), context)
    noisy = encoded.replace("w/nonzero", [AnalogStream("w/nonzero", encoded.analog("w/nonzero").values + 1)])
    decoded = Sparsity().decode(noisy, context).analog("w").values
    np.testing.assert_array_equal(decoded[values == 0], 0)
    np.testing.assert_array_equal(decoded[values != 0], values[values != 0] + 1)


@given(
    gaps=st.lists(st.integers(0, 5) | st.integers(0, 70000), max_size=30),
    tail=st.integers(0, 70000),
    known=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_any_mask_survives(gaps: list[int], tail: int, known: bool) -> None:
    nonzero = np.zeros(sum(gaps) + len(gaps) + tail, np.bool_)
    nonzero[np.cumsum(np.array(gaps, int) + 1) - 1] = True
    context = Context(shapes={"w": (nonzero.size,)} if known else {})
    for name in ("w/mask", "w/magnitude/mask"):
        stream = encode_mask(name, nonzero, context)
        assert stream.length <= nonzero.size + 8
        np.testing.assert_array_equal(decode_mask(stream, context), nonzero)


@pytest.mark.parametrize("byte", range(9))
def test_a_damaged_mask_header_asks_for_no_more_than_the_tensor(byte: int) -> None:
    nonzero = VECTORS["sparse"] != 0
    context = context_for(w=VECTORS["sparse"])
    for flip in (1, 128, 255):
        for name, known, low, high in (
            ("w/mask", context, nonzero.size, nonzero.size),
            ("w/magnitude/mask", context, 0, nonzero.size),
            ("w/mask", Context(), 0, nonzero.size),
        ):
            stream = encode_mask(name, nonzero, context)
            data = stream.data.copy()
            assert 1 <= data[0] <= 16  # a run-length mask
            data[byte] ^= flip
            mask = decode_mask(BitStream(name, data, stream.length, "mask"), known)
            assert low <= mask.size <= high


@given(data=st.data(), width=st.integers(1, 16))
@settings(max_examples=100, deadline=None)
def test_codes_are_packed_least_significant_bit_first(data: st.DataObject, width: int) -> None:
    codes = np.array(data.draw(st.lists(st.integers(0, 2**width - 1), max_size=70)), np.uint16)
    packed = pack_codes(codes, width)
    bits = (codes[:, None] >> np.arange(width, dtype=np.uint16) & 1).astype(np.uint8)
    np.testing.assert_array_equal(packed, np.packbits(bits.reshape(-1), bitorder="little"))
    np.testing.assert_array_equal(unpack_codes(packed, width, codes.size), codes)
    np.testing.assert_array_equal(unpack_codes(packed[:1], width, codes.size)[: 8 // width], codes[: 8 // width])


def test_packing_over_many_chunks() -> None:
    codes = np.random.default_rng(4).integers(0, 2**5, size=8 * (1 << 14) * 2 + 3).astype(np.uint16)
    np.testing.assert_array_equal(unpack_codes(pack_codes(codes, 5), 5, codes.size), codes)


def test_incomplete_sets_are_left_alone() -> None:
    lonely = Payload([AnalogStream("w/small", np.ones(2, np.float32)), AnalogStream("v", np.ones(1, np.float32))])
    merged = merge_parts(lonely, ("small", "large"), lambda base, parts: parts["small"])
    assert same_bits(lonely, merged)
    assert fit(np.ones(3), 5).tolist() == [1, 1, 1, 0, 0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: AdaptiveRange(threshold="best"),
        lambda: AdaptiveRange(threshold=0.0),
        lambda: AdaptiveRange(threshold=float("nan")),
        lambda: Sparsity(when="sometimes"),
    ],
)
def test_bad_settings_are_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(SpecError):
        make()
