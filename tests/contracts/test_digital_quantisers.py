"""What the quantisers for digital storage promise: fidelity and rate of `Uniform`, correction by `ZeroSpace`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memristore.compress import Uniform, ZeroSpace
from memristore.compress.zero_space import add_checks, correct
from memristore.errors import SpecError, TensorError
from memristore.protect import Entropy
from memristore.streams import AnalogStream, BitStream, Payload
from memristore.transform import Compressor, Context

F32 = npt.NDArray[np.float32]
N = 1_000_000
#: Rate-distortion functions at 10, 20, 30 dB, bits. Gaussian: half the binary logarithm of the ratio. Laplacian: 10 dB
#: by Blahut's algorithm; above, the Shannon lower bound, 0.104 bit below the Gaussian, is exact to three digits.
BOUNDS = {"normal": (1.661, 3.322, 4.983), "laplace": (1.561, 3.218, 4.879)}


def streams(part: Compressor, values: F32, shape: tuple[int, ...] | None = None) -> tuple[Payload, Context]:
    context = Context(shapes={"w": shape or values.shape})
    return part.encode(Payload([AnalogStream("w", values)]), context), context


def back(part: Compressor, values: F32, shape: tuple[int, ...] | None = None) -> F32:
    payload, context = streams(part, values, shape)
    return part.decode(payload, context).analog("w").values


def sdr(values: F32, read: F32) -> float:
    error = np.mean(np.square(values.astype(np.float64) - read))
    return float(10 * np.log10(np.var(values.astype(np.float64)) / error))


@pytest.mark.parametrize("bits", [1, 8, 31, 33])
def test_outliers_cut_within_one_are_read_as_far_as_they_go(bits: int) -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=20_000).astype(np.float32)
    values[::500] *= 1000
    payload, context = streams(Uniform(step=0.1, escape=True), values)
    outliers = payload.bits("w/outliers")
    cut = BitStream(outliers.name, outliers.data[: (bits + 7) // 8], bits, outliers.kind)
    found = Uniform().decode(Payload([*(s for s in payload if s is not outliers), cut]), context).analog("w").values
    whole = Uniform().decode(payload, context).analog("w").values
    assert found.size == whole.size
    assert 0 < np.count_nonzero(found != whole) <= outliers.data.size // 4


@pytest.mark.parametrize("source", ["normal", "laplace"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_uniform_and_entropy_come_near_the_rate_distortion_function(source: str, place: int) -> None:
    values = getattr(np.random.default_rng(1), source)(size=N).astype(np.float32)
    ratio, bound = (10.0, 20.0, 30.0)[place], BOUNDS[source][place]
    payload, context = streams(Uniform(sdr=ratio), values)
    coded = Entropy().encode(payload, context)
    rate = sum(len(stream) for stream in coded) / N
    read = Uniform().decode(Entropy().decode(coded, context), context).analog("w").values
    assert ratio - 1e-3 <= sdr(values, read) <= ratio + 0.01
    # 0.2546 bit is the loss of a uniform quantiser at high rates; 0.0054 are left for the coder and for chance.
    # A Laplacian loses less at low rates, where the zero bin is wide.
    assert rate - bound <= (0.21 if source == "laplace" and place == 0 else 0.26)


@pytest.mark.parametrize("ratio", [3.0, 6.0, 10.0])
def test_a_wide_zero_bin_pays_for_a_laplacian(ratio: float) -> None:
    values = np.random.default_rng(2).laplace(size=N).astype(np.float32)

    def rate(deadzone: float | str) -> float:
        payload, context = streams(Uniform(sdr=ratio, deadzone=deadzone), values)
        return sum(len(stream) for stream in Entropy().encode(payload, context)) / N

    assert rate("auto") < rate(1.0) - 0.002
    assert rate("auto") < rate(1.9)


@pytest.mark.parametrize("ratio", [1.0, 12.5, 45.0, 60.0])
@pytest.mark.parametrize("shift", [0.0, 3.0, 1000.0])
@pytest.mark.parametrize("size", [2, 17, 3000])
def test_uniform_reaches_the_ratio_on_any_tensor(ratio: float, shift: float, size: int) -> None:
    values = (np.random.default_rng(3).normal(size=size) + shift).astype(np.float32)
    assert sdr(values, back(Uniform(sdr=ratio), values)) >= ratio - 0.01


def test_uniform_takes_ratios_by_name_and_steps() -> None:
    values = np.random.default_rng(4).normal(size=5000).astype(np.float32)
    part = Uniform(sdr=(("conv*", 30.0), ("*.weight", 10.0)))
    payload = Payload([AnalogStream("conv.weight", values), AnalogStream("fc.weight", values)])
    read = part.decode(part.encode(payload, Context()), Context())
    assert sdr(values, read.analog("conv.weight").values) == pytest.approx(30, abs=0.05)
    assert sdr(values, read.analog("fc.weight").values) == pytest.approx(10, abs=0.05)
    with pytest.raises(SpecError, match="bias"):
        part.encode(Payload([AnalogStream("bias", values)]), Context())
    assert np.abs(back(Uniform(step=0.1), values) - values).max() < 0.06
    with pytest.raises(TensorError, match="too small"):
        back(Uniform(step=1e-12), values)


def test_uniform_takes_the_fewest_bits_and_escapes() -> None:
    values = np.random.default_rng(5).normal(size=20_000).astype(np.float32)
    payload, _ = streams(Uniform(step=0.1), values)
    levels = np.rint(values / np.float32(0.1))
    assert payload.bits("w/codes").symbol_bits == int(np.ptp(levels)).bit_length()
    assert "w/outliers" not in payload
    values[::1000] *= 1000
    plain, _ = streams(Uniform(step=0.1), values)
    escaped, _ = streams(Uniform(step=0.1, escape=True), values)
    assert sum(map(len, escaped)) < 0.7 * sum(map(len, plain))
    np.testing.assert_array_equal(back(Uniform(step=0.1, escape=True), values), back(Uniform(step=0.1), values))
    values[7] = 1e6  # beyond 16 bits
    wide, _ = streams(Uniform(step=0.1), values)
    assert "w/outliers" in wide
    np.testing.assert_allclose(back(Uniform(step=0.1), values), values, atol=0.1)


def test_uniform_keeps_constants_exactly_in_no_bits() -> None:
    for value in (-0.3, 0.0, 3e38, 1e-45):
        values = np.full(1000, value, np.float32)
        payload, _ = streams(Uniform(sdr=10), values)
        assert len(payload.bits("w/codes")) == 0
        np.testing.assert_array_equal(back(Uniform(sdr=10), values), values)


@pytest.mark.parametrize(
    "bad",
    [
        {"sdr": 10.0, "step": 0.1},
        {"sdr": -1.0},
        {"sdr": "high"},
        {"sdr": ((1, 2),)},
        {"sdr": (("w", 500.0),)},
        {"step": 0.0},
        {"deadzone": 0.5},
        {"deadzone": "wide"},
        {"escape": 1},
    ],
    ids=str,
)
def test_bad_settings_of_uniform(bad: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        Uniform(**bad)


@given(
    small=st.lists(st.lists(st.integers(-64, 63), min_size=7, max_size=7), min_size=1, max_size=5),
    large=st.integers(-128, 127),
    first=st.integers(0, 63),
    second=st.integers(0, 63),
)
@settings(max_examples=200, deadline=None)
def test_zero_space_corrects_one_bit_and_detects_two(
    small: list[list[int]], large: int, first: int, second: int
) -> None:
    codes = np.array([[*row, large] for row in small], np.int8).view(np.uint8)
    words = add_checks(codes)
    read, status = correct(words)
    np.testing.assert_array_equal(read, codes)
    assert not status.any()
    damaged = words.copy()
    damaged[0, first // 8] ^= 1 << first % 8
    read, status = correct(damaged)
    np.testing.assert_array_equal(read, codes)
    assert status.tolist() == [1] + [0] * (len(small) - 1)
    if second != first:
        damaged[0, second // 8] ^= 1 << second % 8
        assert correct(damaged)[1][0] == -1


@pytest.mark.parametrize("axis", ["tensor", "channel"])
@pytest.mark.parametrize("shape", [(1,), (13,), (5, 7), (64, 9, 3, 3)])
def test_zero_space_keeps_values_and_survives_one_bit_in_each_word(axis: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(6)
    values = rng.normal(size=shape).astype(np.float32).reshape(-1)
    part = ZeroSpace(axis=axis)
    payload, context = streams(part, values, shape)
    words = payload.bits("w/words")
    assert words.length == 64 * -(-values.size // 8)
    assert not words.outer_code
    clean = part.decode(payload, context).analog("w").values
    # Never worse than seven bits without clipping, whose error is at most half a step of peak / 63.
    assert np.sqrt(np.mean(np.square(clean - values))) <= np.abs(values).max() / 63 / 2
    data = words.data.copy().reshape(-1, 8)
    hit = rng.integers(0, 64, len(data))
    data[np.arange(len(data)), hit // 8] ^= (1 << hit % 8).astype(np.uint8)
    damaged = payload.replace("w/words", [BitStream("w/words", data.reshape(-1), words.length, "index")])
    np.testing.assert_array_equal(part.decode(damaged, context).analog("w").values, clean)


def test_zero_space_loses_little_to_clipping() -> None:
    values = np.random.default_rng(7).normal(size=100_000).astype(np.float32)
    peak = np.abs(values).max()
    eight = 10 * np.log10(12 / (peak / 127) ** 2)
    seven = 10 * np.log10(12 / (peak / 63) ** 2)
    found = sdr(values, back(ZeroSpace(), values))
    assert seven <= found < eight
    with pytest.raises(SpecError, match="axis"):
        ZeroSpace(axis="row")
    with pytest.raises(TensorError, match="w: 5 values"):
        streams(ZeroSpace(), values[:5], (2, 3))
