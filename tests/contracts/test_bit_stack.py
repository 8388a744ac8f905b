"""What BitStack promises besides the contracts: prefixes, their order, and their sizes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

import memristore as ms
from memristore.compress import BitStack
from memristore.errors import SpecError
from memristore.streams import AnalogStream, BitStream, Payload
from memristore.transform import Context

_RNG = np.random.default_rng(3)
TENSORS = {
    "conv": _RNG.normal(size=(16, 8, 3, 3)).astype(np.float32),
    "linear": (0.1 * _RNG.laplace(size=(40, 90))).astype(np.float32),
    "embedding": (_RNG.normal(size=(300, 1)) * _RNG.normal(size=(1, 12))).astype(np.float32),
    "depthwise": _RNG.normal(size=(32, 1, 3, 3)).astype(np.float32),
    "bias": _RNG.normal(size=16).astype(np.float32),
}
CONTEXT = Context(shapes={name: tensor.shape for name, tensor in TENSORS.items()}, cells_per_value=2.0)


def encode(part: BitStack) -> Payload:
    return part.encode(Payload(AnalogStream(n, t.reshape(-1)) for n, t in TENSORS.items()), CONTEXT)


def error(part: BitStack, payload: Payload) -> float:
    back = part.decode(payload, CONTEXT)
    return sum(float(np.square(back.analog(n).values - t.reshape(-1).astype(float)).sum()) for n, t in TENSORS.items())


def size(payload: Payload, unit: str) -> float:
    values, bits = sum(len(s) for s in payload.analog_streams()), sum(len(s) for s in payload.bit_streams())
    return {"bytes": 4 * values + bits / 8, "bits": 32 * values + bits, "cells": 2.0 * values + 1.125 * bits}[unit]


@pytest.mark.parametrize("factors", ["analog", "float16"])
@pytest.mark.parametrize("unit", ["bytes", "bits", "cells"])
def test_every_prefix_decodes_and_each_block_lowers_the_error(factors: str, unit: str) -> None:
    part = BitStack(blocks=4, rank=2, factors=factors)
    whole = encode(part)
    stack = part.order(whole, CONTEXT)
    assert len(stack) == len(set(stack)) >= 13
    empty = Payload(s for s in whole if s.name in TENSORS or s.name.endswith("/count"))
    sizes, errors = [size(empty, unit)], [error(part, part.prefix(whole, CONTEXT, size(empty, unit), unit))]
    for base, j in stack:
        streams = [whole.streams[f"{base}/{kind}{j}"] for kind in ("signs", "factors")]
        sizes.append(sizes[-1] + size(Payload(streams), unit))
        cut = part.prefix(whole, CONTEXT, sizes[-1], unit)
        assert size(cut, unit) == pytest.approx(sizes[-1])
        errors.append(error(part, cut))
    assert errors[0] == pytest.approx(
        sum(float(np.square(t.astype(float)).sum()) for n, t in TENSORS.items() if n != "bias")
    )
    assert all(after < before for before, after in itertools.pairwise(errors))
    assert errors[-1] == pytest.approx(error(part, whole))
    # One unit less, and the last block no longer fits.
    assert error(part, part.prefix(whole, CONTEXT, sizes[-1] - 1, unit)) == pytest.approx(errors[-2])
    with pytest.raises(SpecError, match="do not hold"):
        part.prefix(whole, CONTEXT, sizes[0] - 1, unit)


def test_one_block_of_noise_gains_what_theory_says() -> None:
    # Gaussian weights: signs and one magnitude leave 1 - 2/pi of the variance; 4.39 dB. n = 640,000; a rank-1 magnitude
    # follows rows and columns by a little more. Standard error of the share 0.0012: false alarm below 1e-9.
    values = np.random.default_rng(1).normal(size=(800, 800)).astype(np.float32)
    context = Context(shapes={"w": values.shape})
    part = BitStack(blocks=1, rank=1)
    payload = part.encode(Payload([AnalogStream("w", values.reshape(-1))]), context)
    left = np.square(part.decode(payload, context).analog("w").values - values.reshape(-1)).mean()
    assert left == pytest.approx(1 - 2 / np.pi, abs=0.008)
    assert [(len(s), s.kind) for s in payload.bit_streams()] == [(8, "index"), (640_000, "sign")]
    assert [len(s) for s in payload.analog_streams()] == [1600]


def test_budget_importance_and_what_passes() -> None:
    weights = sum(t.size for n, t in TENSORS.items() if n != "bias")
    for wanted in (2.0, 4.0, 6.0):
        cut = encode(BitStack(bits_per_weight=wanted))
        stacked = size(Payload(s for s in cut if "/" in s.name), "bits") / weights
        assert wanted - 2 < stacked <= wanted  # no block has more than 2 bits per weight of all
    plain = BitStack().order(encode(BitStack()), CONTEXT)
    favoured = BitStack(importance=(("lin*", 1e6),))
    assert favoured.order(encode(favoured), CONTEXT)[0][0] == "linear" != plain[0][0]
    assert encode(BitStack()).analog("bias").values.tolist() == TENSORS["bias"].tolist()
    for bad in ({"blocks": 0}, {"rank": 0}, {"factors": "int8"}, {"bits_per_weight": -1}, {"importance": (("w",),)}):
        with pytest.raises(SpecError):
            BitStack(**bad)


def test_signs_are_bits_and_noise_in_factors_is_small() -> None:
    part = BitStack(blocks=4)
    payload = encode(part)
    assert all(isinstance(s, BitStream) and s.kind == "sign" for s in payload if "/signs" in s.name)
    noise = np.random.default_rng(0)
    noisy = Payload(
        AnalogStream(
            s.name, s.values + np.float32(0.01 * np.abs(s.values).mean()) * noise.normal(size=len(s)).astype("f")
        )
        if isinstance(s, AnalogStream) and "/" in s.name
        else s
        for s in payload
    )
    assert error(part, noisy) < 1.1 * error(part, payload)


def test_stored_on_ideal_cells_it_is_what_the_compressor_says() -> None:
    state = {name: torch.from_numpy(t) for name, t in TENSORS.items()}
    spec = ms.StorageSpec(device="ideal", compress=(BitStack(blocks=5),), protect=(ms.Sign(), ms.Entropy()))
    clean = ms.prepare(state, spec).decode_clean()
    read = ms.store(state, spec, seed=0).load()
    for name, tensor in state.items():
        assert (read[name] - clean[name]).abs().max() < 1e-4 * tensor.abs().max()
