"""The bound of ErrorBounded is never exceeded; arrays of every type keep it, and come back in their type."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import memristore as ms
from memristore.compress import (
    BitStack,
    ErrorBounded,
    Quantize,
    RateDistortion,
    compress_array,
    decompress_array,
    shorten_array,
)
from memristore.compress.error_bounded import CHUNK
from memristore.errors import FileError, SpecError, TensorError

Array = npt.NDArray[np.generic]
_RNG = np.random.default_rng(6)


def check(array: Array, bound: float, relative: bool) -> int:
    """Compress, decompress, compare; returns the bytes."""
    data = compress_array(array, ErrorBounded(bound=bound, relative=relative))
    back = decompress_array(data)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    exact = array.astype(np.float64)
    finite = np.isfinite(exact)
    limit = bound
    if relative:
        limit = bound * (exact[finite].max() - exact[finite].min()) if finite.any() else 0.0
    with np.errstate(invalid="ignore"):
        error = np.abs(back.astype(np.float64) - exact)[finite]
    assert (error <= limit).all(), (error.max(), limit)
    if array.dtype == np.float32:
        bits = array[~finite].view(np.uint32)
        np.testing.assert_array_equal(back[~finite].view(np.uint32), bits)
    assert not back[exact == 0].any()
    return len(data)


_WORDS = st.integers(0, 2**32 - 1)
_PLAIN = st.floats(-1, 1, width=32).map(lambda x: int(np.float32(x).view(np.uint32)))
_SMALL = st.integers(0, 0x007FFFFF) | st.integers(0x80000000, 0x807FFFFF)  # denormal


@given(
    words=st.lists(st.one_of(_WORDS, _PLAIN, _SMALL), min_size=1, max_size=90),
    width=st.integers(1, 9),
    exponent=st.integers(-330, 40),
    mantissa=st.floats(1, 10),
    relative=st.booleans(),
)
@settings(max_examples=400, deadline=None)
def test_no_word_of_32_bits_exceeds_the_bound(
    words: list[int], width: int, exponent: int, mantissa: float, relative: bool
) -> None:
    values = np.array(words, np.uint32).view(np.float32)
    rows = values.size // width
    array = values[: rows * width].reshape(rows, width) if rows else values
    check(array, mantissa * 10.0**exponent, relative)


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.lists(st.integers(1, 9), min_size=0, max_size=4),
    log_bound=st.floats(-9, 1),
    relative=st.booleans(),
    dtype=st.sampled_from(["float32", "float16", "float64", "uint8", "int16", "int32"]),
    kind=st.sampled_from(["noise", "smooth", "holes"]),
)
@settings(max_examples=300, deadline=None)
def test_no_type_exceeds_the_bound(
    seed: int, shape: list[int], log_bound: float, relative: bool, dtype: str, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=shape) * 10.0 ** rng.integers(-3, 4)
    if kind == "smooth" and shape:
        values = np.cumsum(values, axis=-1)
    if kind == "holes":
        values = np.where(rng.random(shape) < 0.3, rng.choice([0.0, np.nan, np.inf, -np.inf, 1e-40, 3e38]), values)
    if np.dtype(dtype).kind in "iu":
        values = np.nan_to_num(values, nan=0, posinf=9, neginf=0).clip(-1e5, 1e5)
    with np.errstate(over="ignore", invalid="ignore"):
        array = np.asarray(values).astype(dtype)
    try:
        check(array, 10.0**log_bound, relative)
    except TensorError as error:
        assert dtype == "float64"  # a bound finer than float32
        assert "float32" in str(error)  # noqa: PT017


@pytest.mark.parametrize("shape", [(CHUNK + 17,), (3, CHUNK), (700, 301), (5, 40, 500), (2, CHUNK // 2 + 1)])
@pytest.mark.parametrize("bound", [1e-1, 1e-4, 0.0])
def test_chunks_of_any_shape(shape: tuple[int, ...], bound: float) -> None:
    rough = np.cumsum(_RNG.normal(size=shape), axis=-1).astype(np.float32)
    rough.reshape(-1)[:: CHUNK // 3] = 1e30  # grid points that no symbol holds
    rough.reshape(-1)[1 :: CHUNK // 3] = np.nan
    check(rough, bound, relative=False)


def test_prediction_pays_where_it_should_and_costs_nothing_where_not() -> None:
    plane = np.add.outer(np.sin(np.arange(256) / 20), np.cos(np.arange(256) / 30)).astype(np.float32)
    noise = _RNG.normal(size=(256, 256)).astype(np.float32)
    smooth = check(plane, 1e-3, relative=True)
    rough = check(noise, 1e-3, relative=True)
    # Neighbours within a step or so: below 2 bits; shuffled, the same values need 8 or more.
    assert smooth < 65536 * 2 / 8
    shuffled = _RNG.permutation(plane.reshape(-1)).reshape(plane.shape)
    assert check(shuffled, 1e-3, relative=True) > 4 * smooth
    # Entropy of Gaussian values on a grid of step d: log2(sqrt(2 pi e) / d); within 2 % with all headers.
    step = 2e-3 * float(np.ptp(noise))
    assert 8 * rough / noise.size == pytest.approx(np.log2(np.sqrt(2 * np.pi * np.e) / step), rel=0.02)


def test_strides_orders_and_what_is_refused() -> None:
    base = _RNG.normal(size=(30, 40)).astype(np.float32)
    for view in (base.T, base[::2, ::-3], np.asfortranarray(base), base.astype(">f4")):
        back = decompress_array(compress_array(view, ErrorBounded(bound=1e-2, relative=False)))
        assert np.abs(back - view).max() <= 1e-2
    assert decompress_array(compress_array(np.zeros((0, 3), np.int8), ErrorBounded())).shape == (0, 3)
    flags = _RNG.random(100) < 0.2
    np.testing.assert_array_equal(decompress_array(compress_array(flags, ErrorBounded(bound=0.0))), flags)
    for bad in (np.zeros(3, complex), np.array(["a"]), np.array([2**25]), np.array([1e300])):
        with pytest.raises(TensorError):
            compress_array(bad, ErrorBounded())
    with pytest.raises(TensorError, match="more than the bound"):
        compress_array(np.array([1e6 + 1e-9, 1e6]), ErrorBounded(bound=1e-12, relative=False))
    for settings_ in ({"bound": -1.0}, {"bound": np.inf}, {"bound": np.nan}, {"relative": 1}):
        with pytest.raises(SpecError):
            ErrorBounded(**settings_)


def test_one_pair_of_functions_for_all_compressors() -> None:
    array = _RNG.normal(size=(64, 6, 3, 3)).astype(np.float32)
    for part, least in (
        (ErrorBounded(bound=0.01), 25.0),
        (RateDistortion(sdr=25.0), 25.0),
        (BitStack(blocks=6, factors="float16"), 15.0),
        ((ms.Prune(sparsity=0.2), Quantize(bits=6)), 20.0),
    ):
        data = compress_array(array, part)
        back = decompress_array(data)
        assert 10 * np.log10(array.var() / np.square(back - array).mean()) > least
        assert len(data) < 0.6 * array.nbytes
    with pytest.raises(TensorError, match="NaN or infinite"):
        compress_array(np.array([np.nan]), RateDistortion())
    with pytest.raises(SpecError, match="compressors"):
        compress_array(array, "error-bounded")


def test_an_array_in_a_stack_is_cut_without_the_original() -> None:
    array = _RNG.normal(size=(96, 128)).astype(np.float32)
    whole = compress_array(array, BitStack(blocks=8, rank=2, factors="float16"))
    errors, sizes = [], np.linspace(len(whole), 2500, 8).astype(int).tolist()
    for size in sizes:
        cut = shorten_array(whole, size)
        assert len(cut) <= size
        errors.append(float(np.square(decompress_array(cut) - array).mean()))
    assert errors == sorted(errors)
    assert errors[0] < 0.05 * errors[-1]
    with pytest.raises(SpecError, match="bit-stack alone"):
        shorten_array(compress_array(array, ErrorBounded()), 100)


def test_damaged_bytes_are_named() -> None:
    data = compress_array(_RNG.normal(size=50), BitStack())
    for bad, what in ((b"", "no compressed array"), (data[:-5], "cut short"), (data + b"x", "follow"),
                      (data[:20] + b"\x00\x00\x00" + data[23:], "damaged")):  # fmt: skip
        with pytest.raises(FileError, match=what):
            decompress_array(bad)
