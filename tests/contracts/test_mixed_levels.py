"""What adaptive coding of levels promises: the same values in fewer bits, parts by themselves, no harm from damage."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memristore import _core
from memristore.compress.level_stream import LevelCoder, varint
from memristore.compress.mixed_levels import PART, Layout, read_mixed, write_mixed
from memristore.compress.rate_distortion import RateDistortion
from memristore.streams import AnalogStream, BitStream, Payload
from memristore.transform import Context

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
Shape = tuple[int, ...]

#: First byte of a tensor that is coded adaptively.
MIXED = 5
#: Values to a byte beyond which damage may not ask.
MOST_VALUES = 256


def rng(salt: int) -> np.random.Generator:
    return np.random.default_rng([salt, 20262])


def encode(values: F32, shape: Shape | None, threads: int = 1, **fields: Any) -> BitStream:
    context = Context({} if shape is None else {"w": shape}, threads=threads)
    part = RateDistortion(**{"sdr": 15.0, "states": 4, **fields})
    (stream,) = part.encode(Payload([AnalogStream("w", values.reshape(-1))]), context).bit_streams()
    return stream


def decode(data: U8, shape: Shape | None, threads: int = 1) -> F32:
    context = Context({} if shape is None else {"w": shape}, threads=threads)
    stream = BitStream("w/coded", data, 8 * data.size, "index")
    return RateDistortion().decode(Payload([stream]), context).analog("w").values


def weights(shape: Shape, spread: float = 1.0) -> F32:
    """Normal values times exp(normal) for each row and each column."""
    draw = rng(math.prod(shape))
    values = draw.normal(size=shape)
    for axis in range(min(len(shape), 2) if len(shape) > 1 else 0):
        values *= np.exp(spread * draw.normal(size=[n if i == axis else 1 for i, n in enumerate(shape)]))
    return values.astype(np.float32).reshape(-1)


def pruned(values: F32, share: float) -> F32:
    return np.where(rng(1).random(values.size) < share, np.float32(0), values).astype(np.float32)


def shifted(values: F32) -> F32:
    return (values + np.float32(5)).astype(np.float32)


def loud(values: F32) -> F32:
    """Ten neighbours each of one size, which contexts find sooner than tables."""
    sizes = np.exp(2 * rng(5).normal(size=values.size // 10))
    return (values * np.repeat(sizes, 10)).astype(np.float32)


#: Values and shape; None: the decoder does not know it.
TENSORS: dict[str, tuple[F32, Shape | None]] = {
    "linear": (weights((60, 50)), (60, 50)),
    "conv": (weights((24, 16, 3, 3)), (24, 16, 3, 3)),
    "conv 5x3": (weights((20, 12, 5, 3)), (20, 12, 5, 3)),
    "conv 1x1": (weights((60, 50, 1, 1)), (60, 50, 1, 1)),
    "conv 1-d": (weights((30, 20, 7)), (30, 20, 7)),
    "depthwise": (weights((400, 1, 3, 3)), (400, 1, 3, 3)),
    "embedding": (weights((1500, 8)), (1500, 8)),
    "large kernels": (weights((2, 1, 70, 70)), (2, 1, 70, 70)),
    "bias": (weights((3000,)), (3000,)),
    "one row": (weights((1, 3000)), (1, 3000)),
    "unknown": (weights((60, 50)), None),
    "pruned": (pruned(weights((24, 16, 3, 3)), 0.7), (24, 16, 3, 3)),
    "pruned, unknown": (pruned(weights((60, 50)), 0.7), None),
    "shifted": (shifted(weights((24, 16, 3, 3), 0.3)), (24, 16, 3, 3)),
    "on a grid": (np.rint(weights((24, 16, 3, 3))), (24, 16, 3, 3)),
    "half": (weights((24, 16, 3, 3)).astype(np.float16).astype(np.float32), (24, 16, 3, 3)),
    "two blocks": (weights((500, 140)), (500, 140)),
    "pruned blocks": (pruned(weights((500, 140)), 0.8), (500, 140)),
}
#: Of more values than one part holds; the first two have three parts, of whole rows.
LARGE: dict[str, tuple[F32, Shape | None]] = {
    "conv": (weights((1200, 50, 3, 3)), (1200, 50, 3, 3)),
    "pruned": (pruned(weights((1300, 50, 3, 3)), 0.5), (1300, 50, 3, 3)),
    "vector": (loud(weights((600_000,))), None),
}


@pytest.mark.parametrize("name", TENSORS)
def test_values_are_those_of_tables_in_fewer_bits(name: str) -> None:
    values, shape = TENSORS[name]
    for fields in ({}, {"sdr": 4.0}, {"sdr": None, "step": 0.5}, {"states": 32}):
        with_tables = encode(values, shape, adaptive=False, **fields)
        adaptive = encode(values, shape, **fields)
        back = decode(adaptive.data, shape)
        assert np.array_equal(back, decode(with_tables.data, shape))
        assert len(adaptive) <= len(with_tables)
        if name != "on a grid":
            assert not back[values == 0].any()
        # Every kind of tensor goes the new way at least once.
        if not fields:
            assert adaptive.data[0] == MIXED
            assert np.array_equal(decode(adaptive.data, None), back)


@pytest.mark.parametrize("name", LARGE)
def test_damage_to_a_part_leaves_the_others_as_they_were(name: str) -> None:
    values, shape = LARGE[name]
    stream = encode(values, shape)
    assert stream.data[0] == MIXED
    good = decode(stream.data, shape)
    assert np.array_equal(good, decode(encode(values, shape, adaptive=False).data, shape))
    part_of = np.zeros(values.size, np.int64)
    for i, (place, _) in enumerate(Layout.of(shape or (), values.size).parts()):
        part_of[place] = i
    assert part_of[-1] == 2
    harmed = []
    for at in np.linspace(100, stream.data.size - 100, 5).astype(int):
        data = stream.data.copy()
        data[at : at + 2] ^= 0x55
        back = decode(data, shape)
        assert np.isfinite(back).all()
        # Most of what follows the damage is lost, to the end of the part.
        (part,) = set(part_of[back != good].tolist())
        harmed.append(part)
    assert harmed == sorted(harmed)
    assert set(harmed) == {0, 1, 2}
    cut = decode(stream.data[: stream.data.size // 2], shape)
    assert np.array_equal(cut[part_of == 0], good[part_of == 0])
    assert cut.size == good.size


@pytest.mark.parametrize(
    ("shape", "most"), [((60, 50), 0.9), ((1500, 16), 0.85), ((40, 12, 3, 3), 0.9), ((300, 150), 0.84)], ids=str
)
def test_rows_and_columns_of_other_spread_save_bits(shape: Shape, most: float) -> None:
    """Normal values times exp(normal) by row and by column, against tables alone; n and draws are fixed."""
    values = weights(shape)
    assert len(encode(values, shape)) < most * len(encode(values, shape, adaptive=False))


def test_memoryless_values_cost_no_more_than_with_tables() -> None:
    for draw in (rng(2).normal(size=40_000), rng(3).laplace(size=40_000), rng(4).uniform(-1, 1, 40_000)):
        values = draw.astype(np.float32)
        for sdr in (2.0, 20.0):
            assert len(encode(values, (200, 200), sdr=sdr)) <= len(encode(values, (200, 200), sdr=sdr, adaptive=False))


@pytest.mark.parametrize("name", ["conv", "pruned", "bias"])
def test_threads_do_not_change_anything(name: str) -> None:
    values, shape = TENSORS[name]
    one, two = (encode(values, shape, threads) for threads in (1, 2))
    assert one.data.tobytes() == two.data.tobytes()
    assert decode(one.data, shape, 1).tobytes() == decode(one.data, shape, 2).tobytes()


@pytest.mark.parametrize(
    "values", [np.zeros(0), np.zeros(7), np.ones(1), np.full(5000, -3.0), np.r_[np.zeros(4999), 1.0], [3e38, -3e38]]
)
def test_degenerate_tensors_come_back(values: Any) -> None:
    x = np.asarray(values, np.float32)
    for shape in ((x.size,), (x.size, 1), (1, x.size), None):
        back = decode(encode(x, shape).data, shape)
        assert back.shape == x.shape
        assert np.isfinite(back).all()
        # All but the last two are exact.
        assert np.array_equal(back[x == 0], x[x == 0])
        if x.size and (x == x[0]).all():
            assert np.array_equal(back, x)


def test_what_contexts_cannot_help_is_left_to_tables() -> None:
    coder = LevelCoder(1, np.float32(1), ())
    rare = np.zeros(200_000, np.int32)
    rare[::9000] = 1
    # More values to a byte than damage may ask for.
    assert write_mixed(coder, rare, None, (400, 500), rare.size) is None
    assert write_mixed(coder, np.full(100, 7, np.int32), None, (100,), 100) is None
    assert write_mixed(coder, np.zeros(0, np.int32), np.zeros(100, np.bool_), (100,), 100) is None


@given(shape=st.lists(st.integers(1, 60), max_size=5).map(tuple), size=st.one_of(st.none(), st.integers(1, 10**7)))
@settings(max_examples=300, deadline=None)
def test_layouts_follow_shapes_that_fit(shape: Shape, size: int | None) -> None:
    count = math.prod(shape) if size is None else size
    layout = Layout.of(shape, count)
    if len(shape) >= 2 and math.prod(shape) == count and math.prod(shape[2:]) <= _core.MIX_MAX_TAPS:
        width = shape[-1] if len(shape) > 2 else 1
        assert (layout.columns, layout.taps, layout.width) == (shape[1], math.prod(shape[2:]), width)
    else:
        assert (layout.columns, layout.taps, layout.width) == (count, 1, 1)


@given(
    size=st.integers(1, 2**24), columns=st.integers(0, 2**62), taps=st.integers(0, 2**62), width=st.integers(0, 2**62)
)
@settings(max_examples=200, deadline=None)
def test_any_layout_is_cut_into_parts_that_cover_it(size: int, columns: int, taps: int, width: int) -> None:
    divisors = [d for d in range(1, 200) if size % d == 0]
    few = divisors[columns % len(divisors)]
    kernel = [d for d in divisors if size // few % d == 0][-1]
    for some in ((columns, taps, width), (few, kernel, 1), (size // few, few, few)):
        layout = Layout(size, *some)
        assert size % (layout.columns * layout.taps) == 0
        assert 0 < layout.width <= layout.taps
        at = 0
        for place, across in layout.parts():
            assert place.start == at < place.stop
            assert (place.stop - at) % (across * layout.taps) == 0
            assert place.stop - at <= max(PART, layout.columns * layout.taps if layout.columns < size else 0)
            at = place.stop
        assert at == size
        assert len(list(layout.parts())) <= 2 * size // PART + 1


#: Cheap ones to damage.
BROKEN = {
    name: encode(*TENSORS[name]).data for name in ("linear", "conv 5x3", "depthwise", "bias", "pruned", "shifted")
}


def stands(data: U8, size: int | None) -> None:
    back = decode(data, None if size is None else (size,))
    assert np.isfinite(back).all()
    assert back.size == size if size is not None else back.size <= MOST_VALUES * data.size


@given(
    name=st.sampled_from(sorted(BROKEN)), at=st.one_of(st.integers(1, 14), st.integers(1, 10**4)),
    flip=st.integers(1, 255), cut=st.one_of(st.none(), st.integers(1, 10**4)), known=st.booleans(),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_damaged_and_cut_bytes_decode(name: str, at: int, flip: int, cut: int | None, known: bool) -> None:
    data = BROKEN[name].copy()
    data[1 + (at - 1) % (data.size - 1)] ^= np.uint8(flip)
    stands(data[:cut], TENSORS[name][0].size if known else None)


@given(data=st.binary(max_size=120), size=st.one_of(st.none(), st.integers(0, 3000)))
@settings(max_examples=150, deadline=None)
def test_any_bytes_decode(data: bytes, size: int | None) -> None:
    stands(np.frombuffer(bytes([MIXED]) + data, np.uint8), size)


@pytest.mark.parametrize("columns", [0, 1, 2, 7, 999, 1000, 2**40, 2**62])
@pytest.mark.parametrize("taps", [0, 1, 4, 1000, 4097, 2**62])
def test_absurd_headers_give_values(columns: int, taps: int) -> None:
    """Columns and taps that do not fit the size; a size that nothing fits."""
    for flags in (5, 5 | 16, 7, 255):
        head = bytes([flags]) + np.array([0.5], "<f4").tobytes()
        tail = varint(columns) + varint(taps) + varint(taps) + bytes(range(40, 80))
        for written in (0, 1000, 2**60):
            data = np.frombuffer(varint(written) + head + tail, np.uint8)
            for size in (None, 0, 1, 1000, 1009):
                back = read_mixed(data, size)
                assert np.isfinite(back).all()
                assert back.size == size if size is not None else back.size <= MOST_VALUES * data.size
