"""Exact tensors of one value: what comes back, and in how many bits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import memristore as ms
from memristore.streams import BitStream, Payload
from memristore.transform import Context


def coded(values: np.ndarray[Any, Any]) -> tuple[BitStream, bytes]:
    """The stream that comes out, and the bytes that come back."""
    raw = np.frombuffer(values.tobytes(), np.uint8)
    context = Context({"b": values.shape})
    payload = ms.Constant().encode(Payload([BitStream("b", raw.copy(), 8 * raw.size, "exact")]), context)
    (stream,) = payload.bit_streams()
    (back,) = ms.Constant().decode(payload, context).bit_streams()
    return stream, back.data.tobytes()


VALUES: dict[str, tuple[Any, int | None]] = {
    "zero": (np.float32(0), 8),
    "one": (np.float32(1), 24),
    "minus zero": (np.float32(-0.0), 16),
    "nan": (np.float32(math.nan), 24),
    "pi": (np.float32(math.pi), None),
    "counter": (np.int64(78_200), 32),
    "no batches": (np.int64(0), 8),
    "minus one": (np.int64(-1), None),
    "mask": (np.bool_(True), None),
    "complex": (np.complex128(1 + 0.1j), None),
    "half": (np.float16(1), None),
}


@pytest.mark.parametrize("shape", [(), (1,), (7,), (2, 3)])
@pytest.mark.parametrize("name", VALUES)
def test_elements_come_back_bit_for_bit_in_their_shortest_form(name: str, shape: tuple[int, ...]) -> None:
    value, bits = VALUES[name]
    values = np.full(shape, value)
    stream, back = coded(values)
    assert back == values.tobytes()
    assert len(stream) <= 8 * values.nbytes
    if bits is not None:
        assert len(stream) == bits


@pytest.mark.parametrize("values", [np.arange(5), np.zeros((0, 3)), np.frombuffer(b"", np.float32)])
def test_other_tensors_pass(values: np.ndarray[Any, Any]) -> None:
    stream, back = coded(values)
    assert stream.name == "b"
    assert back == values.tobytes()


def test_damaged_elements_keep_their_tensor_readable() -> None:
    for head in range(256):
        data = np.array([head, 1, 2, 3], np.uint8)
        payload = Payload([BitStream("b/element", data[: 1 + head % 4], 8 * (1 + head % 4), "exact")])
        (back,) = ms.Constant().decode(payload, Context({"b": (6,)})).bit_streams()
        assert back.data.size == 6 * (head % 16 + 1)
