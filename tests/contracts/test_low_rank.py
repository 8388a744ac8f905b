"""What LowRank promises besides the contracts: optimal truncation, budgets, groups, and exactness."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

import memristore as ms
from memristore.compress import LowRank
from memristore.errors import SpecError
from memristore.streams import AnalogStream, BitStream, Payload
from memristore.transform import Context

F32 = npt.NDArray[np.float32]
_RNG = np.random.default_rng(4)


def low(shape: tuple[int, ...], rank: int, seed: int = 0) -> F32:
    rng = np.random.default_rng(seed)
    left, right = rng.normal(size=(shape[0], rank)), rng.normal(size=(rank, int(np.prod(shape[1:]))))
    return (left @ right).reshape(shape).astype(np.float32)


def encode(part: LowRank, **tensors: F32) -> tuple[Payload, Context]:
    context = Context(shapes={n: t.shape for n, t in tensors.items()})
    return part.encode(Payload(AnalogStream(n, t.reshape(-1)) for n, t in tensors.items()), context), context


def rank_of(payload: Payload, name: str) -> int:
    return int(payload.bits(f"{name}/rank").data[:2].view("<u2")[0])


@pytest.mark.parametrize(("shape", "rank"), [((40, 30), 5), ((16, 8, 3, 3), 4), ((12, 1, 5, 5), 2), ((500, 8), 3)])
@pytest.mark.parametrize("exact", [0, 2])
def test_full_rank_is_exact(shape: tuple[int, ...], rank: int, exact: int) -> None:
    values = low(shape, rank)
    payload, context = encode(LowRank(energy=1.0, exact=exact), w=values)
    assert rank_of(payload, "w") == rank
    back = LowRank(energy=1.0, exact=exact).decode(payload, context).analog("w").values
    # Factors are rounded to 20 bits, those kept as float16 to 11.
    tolerance = 2e-5 if exact == 0 else 5e-3
    assert np.abs(back - values.reshape(-1)).max() < tolerance * np.abs(values).max()
    assert sum(len(s) for s in payload.analog_streams()) == (rank - exact) * (shape[0] + values.size // shape[0])


def test_truncation_leaves_the_tail_of_the_spectrum_and_every_prefix_of_groups_decodes() -> None:
    values = _RNG.normal(size=(60, 100)).astype(np.float32)
    part = LowRank(rank=11)
    payload, context = encode(part, w=values)
    assert [s.name for s in payload] == ["w/rank", "w/factors0", "w/factors1", "w/factors2", "w/factors3"]
    tail = np.square(np.linalg.svd(values.astype(float), compute_uv=False))
    for kept, rank in ((1, 0), (2, 1), (3, 3), (4, 7), (5, 11)):
        back = part.decode(Payload(list(payload)[:kept]), context).analog("w").values.astype(float)
        assert np.square(back - values.reshape(-1)).sum() == pytest.approx(tail[rank:].sum(), rel=1e-4)


def test_separable_kernels_are_found() -> None:
    # Rank 2 as (out * rows) x (in * columns), full rank as out x (in * rows * columns).
    values = low((16 * 3, 8 * 3), 2).reshape(16, 3, 8, 3).swapaxes(1, 2).astype(np.float32)
    payload, context = encode(LowRank(energy=1.0), w=np.ascontiguousarray(values))
    assert rank_of(payload, "w") == 2
    back = LowRank(energy=1.0).decode(payload, context).analog("w").values
    assert np.abs(back - values.reshape(-1)).max() < 2e-5 * np.abs(values).max()


def test_what_does_not_get_smaller_stays() -> None:
    tensors = {
        "noise": _RNG.normal(size=(20, 20)).astype(np.float32),
        "bias": np.ones(64, np.float32),
        "thin": np.ones((500, 1), np.float32),
    }
    payload, _ = encode(LowRank(energy=0.999), **tensors)
    assert list(payload.streams) == list(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(payload.analog(name).values, tensor.reshape(-1))


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.6])
def test_a_budget_is_kept_and_goes_where_it_counts(ratio: float) -> None:
    spread = _RNG.normal(size=(60, 60)) @ np.diag(0.8 ** np.arange(60)) @ _RNG.normal(size=(60, 60))
    tensors = {"steep": spread.astype(np.float32), "flat": _RNG.normal(size=(60, 60)).astype(np.float32)}
    payload, context = encode(LowRank(ratio=ratio), **tensors)
    stored = sum(len(s) for s in payload.analog_streams())
    assert ratio * 7200 - 240 < stored <= ratio * 7200

    def share(part: LowRank) -> dict[str, float]:
        payload, _ = encode(part, **tensors)
        back = part.decode(payload, context)
        return {
            n: float(np.square(back.analog(n).values - t.reshape(-1)).sum() / np.square(t).sum())
            for n, t in tensors.items()
        }

    plain = share(LowRank(ratio=ratio))
    favoured = share(LowRank(ratio=ratio, sensitivity=(("flat", 1.0), ("*", 1e-9))))
    assert favoured["flat"] <= plain["flat"]
    assert favoured["steep"] >= plain["steep"]
    if ratio < 0.5:  # with more, the flat matrix is kept whole either way
        assert favoured["flat"] < 0.95 * plain["flat"]
    # No equal split of ranks over the two does better in what is minimised.
    equal = share(LowRank(rank=max(1, int(ratio * 7200 / 240))))
    assert sum(plain.values()) <= sum(equal.values()) * (1 + 1e-6)


def test_sensitivities_are_the_effect_of_an_error() -> None:
    values = low((30, 20), 4)
    part = LowRank(rank=4)
    payload, context = encode(part, w=values)
    clean = part.decode(payload, context).analog("w").values.astype(float)
    for stream in payload.analog_streams():
        assert stream.sensitivity is not None
        for place in (0, len(stream) - 1):
            off = stream.values.copy()
            off[place] += np.float32(0.125)
            changed = part.decode(
                Payload(AnalogStream(s.name, off) if s is stream else s for s in payload), context
            ).analog("w")
            effect = float(np.square(changed.values - clean).sum()) / 0.125**2
            assert effect == pytest.approx(float(stream.sensitivity[place]), rel=1e-3)
    assert payload.analog("w/factors0").sensitivity.min() > payload.analog("w/factors1").sensitivity.max()


def test_leading_components_as_bits_withstand_noise() -> None:
    spread = _RNG.normal(size=(80, 80)) @ np.diag(0.7 ** np.arange(80)) @ _RNG.normal(size=(80, 80))
    values = spread.astype(np.float32)

    def noisy_error(part: LowRank) -> float:
        payload, context = encode(part, w=values)
        noise = np.random.default_rng(0)
        streams = [
            AnalogStream(s.name, s.values + np.float32(0.1 * s.values.std()) * noise.normal(size=len(s)).astype("f"))
            if isinstance(s, AnalogStream)
            else s
            for s in payload
        ]
        back = part.decode(Payload(streams), context).analog("w").values
        return float(np.square(back - values.reshape(-1)).sum())

    protected, plain = LowRank(rank=12, exact=3), LowRank(rank=12)
    assert noisy_error(protected) < 0.5 * noisy_error(plain)
    payload, _ = encode(protected, w=values)
    assert isinstance(payload.streams["w/leading"], BitStream)
    assert len(payload.bits("w/leading")) == 16 * (1 + 3 * 160)


def test_it_chains_and_stores() -> None:
    state = {"a.weight": torch.from_numpy(low((64, 64), 6)), "a.bias": torch.ones(64)}
    spec = ms.StorageSpec(device="ideal", compress=(LowRank(rank=6, exact=1), ms.RateDistortion(sdr=40.0)))
    read = ms.store(state, spec, seed=0).load()
    error = (read["a.weight"] - state["a.weight"]).square().mean() / state["a.weight"].var()
    assert float(error) < 10**-3.5


def test_bad_settings() -> None:
    for bad in (
        {"energy": 0.0},
        {"energy": 0.5, "rank": 3},
        {"ratio": 1.5},
        {"rank": 0},
        {"exact": -1},
        {"sensitivity": ("w", 1)},
    ):
        with pytest.raises(SpecError):
            LowRank(**bad)
