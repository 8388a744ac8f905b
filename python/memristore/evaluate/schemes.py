"""Ways to keep a network, side by side: digital baselines as strong as the cells allow, and analog ones."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from memristore import rng
from memristore.codes import Densest, Residual, Uncoded
from memristore.compress import Quantize, RateDistortion, Raw, ZeroSpace
from memristore.devices import Device
from memristore.errors import SpecError
from memristore.mapping import Levels, Linear
from memristore.protect import AdaptiveRange, Sign
from memristore.spec import StorageSpec
from memristore.storage import PreparedModel
from memristore.transform import Compressor
from memristore.units import Time

#: Levels that digital baselines are shown with, and their words.
CELLS: Final = {2: "1 bit/cell", 4: "2 bits/cell", 8: "3 bits/cell"}
NAIVE: Final = "naive linear"
BEST: Final = "digital-best"
_FORMATS: Final[dict[str, Compressor]] = {
    "fp32": Raw(dtype="float32"),
    "fp16": Raw(dtype="float16"),
    "bf16": Raw(dtype="bfloat16"),
    "int8": Quantize(bits=8, axis="channel"),
    "int4": Quantize(bits=4, axis="channel"),
    "int8 zero-space": ZeroSpace(),
}
#: Arrays over which the distortion of an analog scheme is averaged before a digital one is matched to it.
_ARRAYS: Final = 3


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """A named way to store a network.

    Parameters
    ----------
    name : str
        Name of the row.
    spec : StorageSpec
    pruned : bool
        Store the pruned and fine-tuned network instead of the original.
    """

    name: str
    spec: StorageSpec
    pruned: bool = False


def digital_schemes(
    device: Device | str,
    retention: Time,
    formats: Sequence[str] = tuple(_FORMATS),
    counts: Sequence[int] = tuple(CELLS),
) -> list[Scheme]:
    """Number formats on cells of 1, 2 and 3 bits, each with the densest bit code for the retention time.

    Parameters
    ----------
    device : Device or str
    retention : time
    formats : sequence of str
        Of fp32, fp16, bf16, int8, int4 (both per channel), int8 zero-space (SECDED inside the bytes, no other code).
    counts : sequence of int
        Levels per cell.

    Returns
    -------
    list of Scheme
    """
    if unknown := [f for f in formats if f not in _FORMATS]:
        raise SpecError(f"no digital format is called {unknown[0]!r}; there are {', '.join(_FORMATS)}")
    return [
        Scheme(
            name=f"{name}, {CELLS.get(count, f'{count} levels')}",
            spec=StorageSpec(
                device=device,
                compress=(_FORMATS[name],),
                bits=Densest(),
                levels=Levels(count=count),
                retention=retention,
            ),
        )
        for name in formats
        for count in counts
    ]


def analog_schemes(device: Device | str, retention: Time) -> list[Scheme]:
    """Storage in analog cells without retraining, from the naive to the protected."""
    ranged = (Sign(), AdaptiveRange())
    base = StorageSpec(device=device, retention=retention, bits=Densest())
    naive = dataclasses.replace(base, mapper=Linear(clip=None), decoder="inverse")
    return [
        Scheme(name=NAIVE, spec=naive),
        Scheme(name="sign", spec=dataclasses.replace(base, protect=(Sign(),))),
        Scheme(name="sign + range", spec=dataclasses.replace(base, protect=ranged)),
        Scheme(
            name="sign + range + residual 2", spec=dataclasses.replace(base, protect=ranged, code=Residual(planes=2))
        ),
    ]


def tensor_sdr(prepared: PreparedModel, at: Time, seed: int = 0, threads: int = 0) -> dict[str, float]:
    """Signal-to-distortion ratio of each analog stream's tensor after a time, dB, by stream name; over three arrays.

    Measured against the network after compression, before any cell. Tensors that do not vary or come back exactly are
    left out.
    """
    clean = prepared.decode_clean()
    analog = {e.name: e.base for e in prepared.entries if e.kind == "analog"}
    errors = dict.fromkeys(analog, 0.0)
    for array in range(_ARRAYS):
        stored = prepared.program(seed=rng.key(seed, "sdr", array), trace=False, threads=threads)
        found = stored.load(at=at, threads=threads)
        for name in analog:
            errors[name] += float((found[name].double() - clean[name].double()).square().sum()) / _ARRAYS
    powers = {name: float((clean[name].double() - clean[name].double().mean()).square().sum()) for name in analog}
    return {
        base: 10 * math.log10(powers[name] / errors[name])
        for name, base in analog.items()
        if powers[name] > 0 and errors[name] > 0
    }


def digital_best(
    scheme: Scheme, prepared: PreparedModel, at: Time, *, seed: int = 0, counts: Sequence[int | None] = (None,)
) -> list[Scheme]:
    """Return the strongest digital rivals of an analog scheme.

    The same compression, then rate-distortion-optimised quantisation with entropy coding to the distortion that the
    analog scheme leaves in each tensor after `at`, on cells with the densest bit code for the same retention time.

    Parameters
    ----------
    scheme : Scheme
        Analog.
    prepared : PreparedModel
        Of its recipe and the network.
    at : time
    seed : int
        Of the arrays on which the distortion is measured.
    counts : sequence of int or None
        Levels of the cells; None is as many as hold the most.

    Returns
    -------
    list of Scheme
        One for each of `counts`.
    """
    spec = scheme.spec
    found = tensor_sdr(prepared, at, seed)
    # A tensor that noise spared altogether is small or constant: 60 dB is far beyond what accuracy can tell. One that
    # is drowned in noise (below 0 dB) needs next to no bits.
    targets = (*sorted((name, round(min(max(sdr, 0.1), 60.0), 3)) for name, sdr in found.items()), ("*", 60.0))
    rival = dataclasses.replace(
        spec, compress=(*spec.compress, RateDistortion(sdr=targets)), protect=(), code=Uncoded(), allocation=None,
        bits=Densest(),
    )  # fmt: skip
    return [
        Scheme(
            name=BEST if count is None else f"{BEST}, {CELLS.get(count, f'{count} levels')}",
            spec=dataclasses.replace(rival, levels=None if count is None else Levels(count=count)),
            pruned=scheme.pruned,
        )
        for count in counts
    ]
