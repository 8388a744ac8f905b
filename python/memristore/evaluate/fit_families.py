"""Families of recipes that `fit` searches: each has one knob, and more of it costs cells and saves accuracy."""

from __future__ import annotations

import dataclasses
import glob
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from memristore.allocate import Allocator, PerLayer, Sensitive
from memristore.codes import AnalogCode, Densest, Repetition, Residual
from memristore.compress import Compressor, Constant, Prune, RateDistortion
from memristore.mapping import Companded, Linear, Mapper
from memristore.protect import AdaptiveRange, Entropy, Sign
from memristore.spec import StorageSpec
from memristore.torch_io import flatten, unescape
from memristore.transform import Protection

if TYPE_CHECKING:
    from torch import nn

    from memristore.torch_io import StateDict

#: Signal-to-distortion ratio of biases and batch-norm parameters, dB: few values, of which much depends.
SMALL_SDR: Final = 35.0
#: Range of a tensor's ratio, dB. Below the least a tensor is as good as dropped, above the most as good as exact.
LEAST_SDR: Final = 0.5
MOST_SDR: Final = 80.0
#: Range of the mean ratio that is searched, dB, and how finely.
SDR_RANGE: Final = (2.0, 60.0)
SDR_STEP: Final = 0.125
#: Range of the mean number of planes, and how finely.
PLANES_RANGE: Final = (1.0, 8.0)
PLANES_STEP: Final = 0.125
#: Shares of the weights that are not zero which are pruned before quantisation, without retraining.
_PRUNED: Final = (0.3, 0.5)
#: Range of the price of a bit where losses were measured, in tenths of a decade below a nat, and how finely.
PRICE_RANGE: Final = (40.0, 110.0)
PRICE_STEP: Final = 0.25
#: States of the trellis.
STATES: Final = 32
#: Exponents of the sensitivity: with 1 the predicted loss is least for its bits if errors are small, with 0 the squared
#: error is. The expansion behind a sensitivity holds for small errors only, so what lies between is tried as well.
POWERS: Final = {
    0.0: "equal error",
    0.5: "by sensitivity^0.5",
    1.0: "by sensitivity",
}
EQUAL_SDR: Final = "equal SDR"
MEASURED: Final = "by measured loss"


@dataclass(frozen=True, kw_only=True)
class Family:
    """Recipes with one knob.

    Parameters
    ----------
    name : str
        Name of its rows.
    spec : callable
        Knob to recipe.
    low, high, step : float
        Range of the knob, and the least difference that is looked at. Cells rise with the knob. `low` equal to `high`:
        there is nothing to turn.
    unit : str
        Of the knob.
    digital : bool
        Everything is kept as bits, which come back as they were written: one trial tells all.
    calibrated : bool
        Batch norm is folded and set anew behind the weights as they will be read.
    """

    name: str
    spec: Callable[[float], StorageSpec]
    low: float
    high: float
    step: float
    unit: str
    digital: bool
    calibrated: bool = False

    def row(self, knob: float) -> str:
        """Name of a row of this family."""
        return self.name if self.low == self.high else f"{self.name}, {knob:.4g} {self.unit}"


@dataclass(frozen=True)
class Tensor:
    """An analog stream: its name, its values' number, variance and zeros, and the dimensions of the tensor."""

    name: str
    stream: str
    size: int
    variance: float
    dims: int
    zeros: int = 0


def tensors_of(model: nn.Module | StateDict, spec: StorageSpec) -> list[Tensor]:
    """List the tensors whose values may be stored with errors."""
    entries, payload = flatten(model, spec)
    dims = {entry.base: len(entry.shape) for entry in entries if entry.kind == "analog"}
    return [
        Tensor(
            unescape(s.name), s.name, len(s), float(s.values.var(dtype=np.float64)) if len(s) else 0.0, dims[s.name],
            len(s) - int(np.count_nonzero(s.values)),
        )
        for s in payload.analog_streams()
    ]  # fmt: skip


def sparsities(tensors: Sequence[Tensor]) -> list[float]:
    """Return shares of all weights that are zero when some of those that are not have been pruned.

    There are none of a network that has next to nothing but zeros.
    """
    # Tensors of nothing but zeros count too.
    large = [t for t in tensors if t.dims > 1]
    kept = 1 - sum(t.zeros for t in large) / max(sum(t.size for t in large), 1)
    shares = {round(1 - (1 - share) * kept, 4) for share in _PRUNED}
    return sorted(share for share in shares if 1 - kept < share < 1)


def ratios(tensors: Sequence[Tensor], gains: Mapping[str, float], mean: float) -> tuple[tuple[str, float], ...]:
    """Ratio of each tensor: its gain (dB, by tensor name) and one constant for all, so that their mean is `mean`.

    Reverse water-filling: with gains of ``variance * sensitivity`` the distortions are inversely proportional to the
    sensitivities, where the Lagrangian of loss and bits is least as long as a bit is worth 6 dB everywhere. The mean is
    over values. Vectors (biases, batch norm) get `SMALL_SDR` or what the rule says, whichever is more.
    """
    large = large_tensors(tensors)
    total = sum(t.size for t in large)
    level = mean - sum(t.size * gains[t.name] for t in large) / max(total, 1)
    found = {t.stream: min(max(level + gains[t.name], LEAST_SDR), MOST_SDR) for t in large}
    rules = tuple((glob.escape(stream), round(ratio, 3)) for stream, ratio in found.items())
    return (*rules, ("*", max(SMALL_SDR, round(mean, 3))))


def large_tensors(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors whose ratios are chosen: matrices and more, or all if there are none."""
    varied = [t for t in tensors if t.variance > 0]
    return [t for t in varied if t.dims > 1] or varied


def gains_of(
    tensors: Sequence[Tensor], sensitivity: Mapping[str, float] | None, power: float | None
) -> dict[str, float]:
    """Gain of each tensor, dB: ``variance * sensitivity**power``; 0 for all if `power` is None (equal SDR)."""
    large = large_tensors(tensors)
    if power is None:
        return {t.name: 0.0 for t in large}
    known = {} if sensitivity is None else sensitivity
    found = [known[t.name] for t in large if known.get(t.name, 0.0) > 0]
    # What no sample touched is not known to be worthless: it gets a thousandth of the median.
    least = 1e-3 * float(np.median(found)) if found else 1.0
    return {
        t.name: 10 * (math.log10(t.variance) + power * math.log10(max(known.get(t.name, 0.0), least))) for t in large
    }


def quantised(
    base: StorageSpec, tensors: Sequence[Tensor], gains: Mapping[str, float], words: str, sparsity: float = 0.0,
    calibrated: bool = False,
) -> Family:  # fmt: skip
    """Trellis-coded quantisation with entropy-coded levels on the densest cells; the knob is the mean ratio, dB.

    Parameters
    ----------
    base : StorageSpec
        Device, retention time, how cells are written.
    tensors : sequence of Tensor
    gains : mapping of str to float
        See `ratios`.
    words : str
        How distortion is spread, for the name.
    sparsity : float
        Share of weights pruned before.
    calibrated : bool
        See `Family`.
    """
    low, high = SDR_RANGE
    return Family(
        name=_name(words, sparsity, calibrated),
        spec=lambda mean: _quantiser(base, ratios(tensors, gains, mean), sparsity, calibrated),
        low=low, high=high, step=SDR_STEP, unit="dB", digital=True, calibrated=calibrated,
    )  # fmt: skip


def priced(
    base: StorageSpec, rules: Callable[[float], tuple[tuple[str, float], ...]], sparsity: float = 0.0,
    calibrated: bool = False,
) -> Family:  # fmt: skip
    """Return the same with ratios from measured losses; the knob is the price of a bit, ``10**(-knob / 10)`` nats."""
    low, high = PRICE_RANGE
    return Family(
        name=_name(MEASURED, sparsity, calibrated),
        spec=lambda knob: _quantiser(base, rules(10 ** (-knob / 10)), sparsity, calibrated),
        low=low, high=high, step=PRICE_STEP, unit="price", digital=True, calibrated=calibrated,
    )  # fmt: skip


def _name(words: str, sparsity: float, calibrated: bool) -> str:
    pruned = f", pruned {100 * sparsity:g} %" if sparsity else ""
    return f"{'calibrated + ' if calibrated else ''}quantised{pruned}, {words}"


def _quantiser(
    base: StorageSpec, rules: tuple[tuple[str, float], ...], sparsity: float, calibrated: bool
) -> StorageSpec:
    chain: list[Compressor] = [Constant()] if calibrated else []
    chain += [Prune(sparsity=sparsity)] if sparsity else []
    return dataclasses.replace(base, compress=(*chain, RateDistortion(sdr=rules, states=STATES)), bits=Densest())


def spreads(
    base: StorageSpec, tensors: Sequence[Tensor], sensitivity: Mapping[str, float] | None
) -> list[tuple[str, dict[str, float]]]:
    """Ways to spread distortion over tensors, as words and gains; the plain one first."""
    found = [(EQUAL_SDR, gains_of(tensors, None, None))]
    powers = POWERS if sensitivity is not None else {0.0: POWERS[0.0]}
    return found + [(words, gains_of(tensors, sensitivity, power)) for power, words in powers.items()]


def analog_families(base: StorageSpec, sensitivity: Mapping[str, float] | None) -> Iterator[Family]:
    """Analog recipes: protections, codes with planes, and allocations; the knob is the mean number of planes."""
    base = dataclasses.replace(base, bits=Densest())
    chains: dict[str, tuple[Protection, ...]] = {
        "uncoded": (),
        "sign": (Sign(),),
        "sign + range": (Sign(), AdaptiveRange()),
        "sign + range + entropy": (Sign(), AdaptiveRange(), Entropy()),
    }
    mappers: tuple[tuple[str, Mapper], ...] = (("", Linear()), (" + companded", Companded(at=base.retention)))
    for name, chain in chains.items():
        for mapped, mapper in mappers:
            spec = dataclasses.replace(base, protect=chain, mapper=mapper)
            yield Family(
                name=f"{name}{mapped}", spec=partial(_alone, spec), low=1.0, high=1.0, step=1.0, unit="planes",
                digital=False,
            )  # fmt: skip
    low, high = PLANES_RANGE
    weights = tuple(sensitivity.items()) if sensitivity is not None else ()
    most = math.ceil(high)
    for name, (mapped, mapper) in zip(("sign", "sign + range + entropy"), mappers, strict=True):
        codes: tuple[AnalogCode, ...] = (Residual(planes=2), Repetition(planes=2))
        for code in codes:
            for words in ("per layer", "by sensitivity" if weights else "by error"):

                def spread(mean: float, words: str = words) -> Allocator:
                    if words == "per layer":
                        return PerLayer(mean=mean, maximum=most)
                    return Sensitive(mean=mean, sensitivity=weights, others=0.0 if weights else 1.0, maximum=most)

                def turned(
                    mean: float, protect: tuple[Protection, ...] = chains[name], code: AnalogCode = code,
                    spread: Callable[[float], Allocator] = spread, mapper: Mapper = mapper,
                ) -> StorageSpec:  # fmt: skip
                    return dataclasses.replace(
                        base, protect=protect, code=code, mapper=mapper, allocation=spread(mean)
                    )  # fmt: skip

                yield Family(
                    name=f"{name}{mapped} + {code.name}, {words}", spec=turned, low=low, high=high, step=PLANES_STEP,
                    unit="planes", digital=False,
                )  # fmt: skip


def _alone(spec: StorageSpec, _: float) -> StorageSpec:
    return spec
