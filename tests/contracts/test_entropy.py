"""What entropy coding promises: near the entropy, never more bits, one block's damage stays in that block."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import memristore as ms
from memristore import symbol_blocks as blocks
from memristore.compress import Quantize, Raw, Uniform
from memristore.errors import SpecError, TensorError
from memristore.masks import decode_mask, encode_mask, pack_codes, unpack_codes
from memristore.protect import AdaptiveRange, Entropy, Sign, Sparsity
from memristore.streams import AnalogStream, BitStream, Payload, Stream
from memristore.torch_io import Entry, rebuild
from memristore.transform import Context

N = 400_000


def entropy(symbols: npt.NDArray[np.integer]) -> float:
    """Empirical zero-order entropy, bits in all."""
    counts = np.unique(symbols, return_counts=True)[1]
    return float(np.dot(counts, np.log2(symbols.size / counts)))


def codes_of(name: str, symbols: npt.NDArray[np.integer], width: int) -> BitStream:
    if width == 32:
        return BitStream.from_array(name, symbols.astype(np.uint32), "index")
    return BitStream(name, pack_codes(symbols.astype(np.uint16), width), symbols.size * width, "index", width)


def total(payload: Payload) -> int:
    return sum(len(stream) for stream in payload)


def same(a: BitStream, b: BitStream) -> bool:
    return (a.length, a.kind, a.symbol_bits, a.data.tobytes()) == (b.length, b.kind, b.symbol_bits, b.data.tobytes())


def round_trip(stream: BitStream, block: int = 65536) -> Payload:
    part, context = Entropy(block=block), Context()
    coded = part.encode(Payload([stream]), context)
    back = part.decode(coded, context)
    assert list(back.streams) == [stream.name]
    assert same(back.bits(stream.name), stream)
    assert total(coded) <= stream.length
    return coded


@pytest.mark.parametrize("p", [0.0, 1e-4, 0.02, 0.05, 0.1, 0.3, 0.5])
def test_single_bits_take_their_entropy(p: float) -> None:
    bools = np.random.default_rng(1).random(N) < p
    coded = round_trip(BitStream.from_bools("w/flag", bools, "flag"))
    spans = -(-N // 65536)
    assert total(coded) <= min(N, 1.01 * entropy(bools) + 8 * (21 + 10 * spans))


@pytest.mark.parametrize("source", ["normal", "laplace"])
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8, 12])
def test_codes_take_their_entropy(source: str, bits: int) -> None:
    values = getattr(np.random.default_rng(2), source)(size=N).astype(np.float32)
    context = Context(shapes={"w": (N,)})
    stream = Quantize(bits=bits).encode(Payload([AnalogStream("w", values)]), context).bits("w/codes")
    assert stream.symbol_bits == bits
    symbols = unpack_codes(stream.data, bits, N)
    assert total(round_trip(stream)) <= 1.01 * entropy(symbols) + 8 * (21 + 16 * 7)


@pytest.mark.parametrize("keep", [0.02, 0.1, 0.3])
def test_masks_take_their_entropy_however_they_were_written(keep: float) -> None:
    values = np.where(np.random.default_rng(3).random(N) < keep, 1, 0).astype(np.float32)
    context = Context(shapes={"w": (N,)})
    mask = Sparsity(when="always").encode(Payload([AnalogStream("w", values)]), context).bits("w/mask")
    assert mask.data[0] != 0 or keep > 0.1  # run lengths where there are many zeros
    coded = Entropy().encode(Payload([mask]), context)
    h2 = -keep * np.log2(keep) - (1 - keep) * np.log2(1 - keep)
    assert total(coded) <= 1.02 * N * h2
    np.testing.assert_array_equal(decode_mask(Entropy().decode(coded, context).bits("w/mask"), context), values != 0)


def test_masks_of_another_format_come_back_bit_for_bit() -> None:
    raw = np.random.default_rng(4).choice(np.uint8([7, 0, 1]), p=[0.05, 0.9, 0.05], size=5000)
    raw[0] = 3  # looks like run lengths of width 3, but is none
    for context in (Context(), Context(shapes={"w": (40000,)})):
        stream = BitStream("w/mask", raw, 40000, "mask")
        coded = Entropy().encode(Payload([stream]), context)
        assert "w/mask/coded" in coded
        assert same(Entropy().decode(coded, context).bits("w/mask"), stream)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_exponents_of_raw_words_are_worth_coding(dtype: str) -> None:
    values = np.random.default_rng(5).normal(size=50_000).astype(np.float32)
    stream = Raw(dtype=dtype).encode(Payload([AnalogStream("w", values)]), Context()).bits("w/raw")
    assert total(round_trip(stream)) < 0.93 * stream.length


SYMBOLS = {
    "empty": np.zeros(0, np.int64),
    "one": np.array([3]),
    "constant": np.full(1000, 2),
    "two-blocks-constant": np.repeat([1, 2], 512),
    "all-equal-but-one": np.where(np.arange(3000) == 2999, 3, 0),
    "alternating": np.arange(2000) % 2,
    "random": np.random.default_rng(6).integers(0, 4, 1001),
    "skewed": np.random.default_rng(6).choice(4, p=[0.9, 0.05, 0.03, 0.02], size=5000),
}


@pytest.mark.parametrize("symbols", SYMBOLS)
@pytest.mark.parametrize("width", [2, 7, 13, 16, 32])
@pytest.mark.parametrize("block", [64, 512, 65536])
def test_any_shape_of_stream_comes_back(symbols: str, width: int, block: int) -> None:
    for scale in (1, (2**width - 1) // 3):
        coded = round_trip(codes_of("w/codes", SYMBOLS[symbols] * scale, width), block)
        if symbols == "constant" and block > 64:
            assert total(coded) < 8 * 64


@given(data=st.data(), width=st.integers(1, 16) | st.just(32))
@settings(max_examples=150, deadline=None)
def test_any_block_comes_back(data: st.DataObject, width: int) -> None:
    top = data.draw(st.integers(0, 2**width - 1))
    peak = data.draw(st.integers(0, top))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    spread = data.draw(st.sampled_from([0.3, 3.0, 300.0, 1e6]))
    count = data.draw(st.integers(0, 3000))
    symbols = np.clip(np.rint(peak + spread * rng.standard_cauchy(count)), 0, top).astype(np.uint32)
    coded = blocks.encode_block(symbols, width)
    assert coded.size <= (count * width + 7) // 8 + 1
    np.testing.assert_array_equal(blocks.decode_block(coded, width, count), symbols)


@given(data=st.binary(max_size=80), width=st.integers(1, 16) | st.just(32), count=st.integers(0, 3000))
@settings(max_examples=300, deadline=None)
def test_any_bytes_decode_to_the_right_number_of_symbols(data: bytes, width: int, count: int) -> None:
    for kind in range(8):
        raw = np.frombuffer(bytes([kind]) + data, np.uint8)
        symbols = blocks.decode_block(raw, width, count)
        assert symbols.shape == (count,)
        assert symbols.dtype == np.uint32
        assert not count or int(symbols.max()) < 2**width


def test_decoding_is_integer_arithmetic_and_the_same_everywhere() -> None:
    # Decoded from bytes of a fixed generator: what a stored file means must not change with machine or release.
    state, raw = 1, []
    for _ in range(4000):
        state = (state * 1103515245 + 12345) % 2**31
        raw.append(state >> 16 & 255)
    data = np.array(raw, np.uint8)
    digest = hashlib.sha256()
    for kind, width in ((2, 1), (3, 4), (11, 8), (27, 12), (4, 5), (4, 12), (3, 16), (4, 32)):
        head = np.array([kind, 4 if width > 12 else 0, 0, width % 4 * 16, 3, 20, 0], np.uint8)
        digest.update(blocks.decode_block(np.concatenate([head, data]), width, 5000).astype("<u4").tobytes())
    assert digest.hexdigest() == "1e9b27d1a5deaa2f54d4ca12b92357972c5cdb44016d0a62108e72f4fbe5087b"
    np.testing.assert_array_equal(blocks._EXP2, [round(2**24 * 2.0 ** (-i / 16)) for i in range(16)])


def test_damage_stays_in_its_block() -> None:
    symbols = np.clip(np.rint(np.random.default_rng(7).laplace(8, 1.5, size=20_000)), 0, 15).astype(np.int64)
    part = Entropy(block=1024)
    coded = part.encode(Payload([codes_of("w/codes", symbols, 4)]), Context())
    ends = part._read_list(coded.bits("w/codes/blocks"))[3]
    for block in (0, 7, 19):
        data = coded.bits("w/codes/coded").data.copy()
        start = int(ends[block - 1]) if block else 0
        data[start : int(ends[block])] ^= 0x5A
        damaged = coded.replace("w/codes/coded", [BitStream("w/codes/coded", data, 8 * data.size, "index")])
        back = unpack_codes(part.decode(damaged, Context()).bits("w/codes").data, 4, symbols.size)
        wrong = np.flatnonzero(back != symbols)
        assert wrong.size
        assert set(wrong // 1024) == {block}
    side = coded.bits("w/codes/blocks").data.copy()
    side[21 + 2 * 5] ^= 0x40  # end of block 5
    side[0] ^= 3  # one of three headers
    damaged = coded.replace("w/codes/blocks", [BitStream("w/codes/blocks", side, 8 * side.size, "index")])
    back = unpack_codes(part.decode(damaged, Context()).bits("w/codes").data, 4, symbols.size)
    assert set(np.flatnonzero(back != symbols) // 1024) <= {5, 6}


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_the_whole_stack_survives_damage(data: st.DataObject) -> None:
    rng = np.random.default_rng(8)
    values = np.where(rng.random(6000) < 0.8, 0, rng.laplace(size=6000)).astype(np.float32)
    context = Context(shapes={"w": (6000,)})
    digital = data.draw(st.booleans())
    stack = (
        (Uniform(sdr=15), Entropy(block=512))
        if digital
        else (Sparsity(when="always"), Sign(), AdaptiveRange(threshold=2.0), Entropy(block=512))
    )
    payload = Payload([AnalogStream("w", values)])
    for part in stack:
        payload = part.encode(payload, context)
    assert any(name.endswith("/coded") for name in payload.streams)
    cut = data.draw(st.booleans())
    out: list[Stream] = []
    for stream in payload:
        if isinstance(stream, AnalogStream):
            out.append(stream)
            continue
        size = data.draw(st.integers(0, len(stream))) if cut else len(stream)
        packed = stream.data[: (size + 7) // 8].copy()
        for byte in data.draw(st.lists(st.integers(0, packed.size - 1), max_size=8)) if packed.size else ():
            packed[byte] ^= data.draw(st.integers(1, 255))
        out.append(BitStream(stream.name, packed, size, stream.kind))
    payload = Payload(out)
    for part in reversed(stack):
        payload = part.decode(payload, context)
    assert payload.analog("w").values.size == values.size


def test_streams_with_a_code_of_their_own_and_small_ones_pass() -> None:
    zeros = np.zeros(5000, np.uint8)
    kept = [BitStream("a", zeros, 40000, "index", outer_code=False), BitStream("b", zeros[:4], 32, "scale")]
    coded = Entropy().encode(Payload(kept), Context())
    assert [id(s) for s in coded] == [id(s) for s in kept]


def test_bad_settings_are_refused() -> None:
    for block in (0, 12, 1 << 25, 8.0):
        with pytest.raises(SpecError):
            Entropy(block=block)
    with pytest.raises(SpecError, match="symbols"):
        BitStream("w", np.zeros(3, np.uint8), 24, "index", symbol_bits=17)
    with pytest.raises(TensorError, match="whole symbols"):
        BitStream("w", np.zeros(3, np.uint8), 24, "index", symbol_bits=5)


def test_a_stored_network_reads_the_same_with_fewer_cells() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(100, 200), torch.nn.BatchNorm1d(200), torch.nn.Linear(200, 50))
    plain = ms.StorageSpec(device="ideal", compress=(Uniform(sdr=12.0),))
    coded = ms.StorageSpec(device="ideal", compress=(Uniform(sdr=12.0),), protect=(Entropy(),))
    assert ms.StorageSpec.from_dict(coded.to_dict()) == coded
    a, b = (ms.store(net, spec, seed=0) for spec in (plain, coded))
    assert b.ledger().total < 0.95 * a.ledger().total
    for name, tensor in a.load().items():
        assert torch.equal(tensor, b.load()[name])
    assert torch.equal(b.load(names=["2.weight"])["2.weight"], a.load()["2.weight"])


def test_mask_of_a_part_comes_back() -> None:
    nonzero = np.random.default_rng(9).random(9000) < 0.1
    context = Context(shapes={"w": (12000,)})
    mask = encode_mask("w/magnitude/mask", nonzero, context)
    coded = Entropy().encode(Payload([mask]), context)
    assert total(coded) < mask.length
    back = Entropy().decode(coded, context).bits("w/magnitude/mask")
    np.testing.assert_array_equal(decode_mask(back, context), nonzero)


def test_a_wrong_list_of_blocks_never_changes_the_size_of_a_tensor() -> None:
    values = np.zeros(5000, np.float32)
    values[::50] = 1.5
    context = Context(shapes={"w": (5000,)})
    tensor = torch.from_numpy(values.astype(np.float64))
    entry = Entry("w", (5000,), "float64", "exact", "w", True)
    exact = BitStream.from_array("w", values.astype(np.float64), "exact")
    raw = Raw().encode(Payload([AnalogStream("w", values)]), context)
    flags = AdaptiveRange(threshold=2.0).encode(Payload([AnalogStream("w", values)]), context)
    for payload in (Payload([exact]), raw, flags):
        coded = Entropy(block=512).encode(payload, context)
        side = next(s for s in coded.bit_streams() if s.name.endswith("/blocks"))
        for byte in range(7):
            data = side.data.copy()
            data[[byte, 7 + byte, 14 + byte]] ^= 0x55  # all three headers
            damaged = coded.replace(side.name, [BitStream(side.name, data, side.length, side.kind)])
            back = Entropy(block=512).decode(damaged, context)
            if payload is raw or payload is flags:
                part = Raw() if payload is raw else AdaptiveRange(threshold=2.0)
                assert part.decode(back, context).analog("w").values.size == values.size
            else:
                assert rebuild(entry, back).shape == tensor.shape
