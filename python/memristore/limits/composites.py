"""Sources made of other sources: pruned values, mixtures."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
from scipy import special

from memristore.config import check_number
from memristore.errors import SpecError
from memristore.limits.empirical import Empirical
from memristore.limits.sources import NONE, Gaussian, GeneralisedGaussian, Laplacian, Source, Split

F64 = npt.NDArray[np.float64]


def as_source(given: Source | str | dict[str, Any]) -> Source:
    """Make a source of its name, which stands for its default settings, or of its dict form.

    Raises
    ------
    SpecError
        If there is no such source.
    """
    if isinstance(given, Source):
        return given
    kind = given.get("type") if isinstance(given, dict) else given
    if kind not in SOURCES:
        raise SpecError(f"no source is called {kind!r}; there are {', '.join(sorted(SOURCES))}")
    return SOURCES[kind].from_dict(given) if isinstance(given, dict) else SOURCES[kind]()


@dataclass(frozen=True, kw_only=True)
class Mixture(Source):
    """Values each of which comes from one of several sources.

    Parameters
    ----------
    parts : tuple of Source
        The sources; a name (``"laplacian"``) stands for the source of unit variance.
    weights : tuple of float
        Their probabilities, positive, summing to 1.

    Raises
    ------
    SpecError
        If the weights are none.
    """

    parts: tuple[Source | str, ...]
    weights: tuple[float, ...]

    name: ClassVar[str] = "mixture"
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({"parts": ("gaussian", "laplacian"), "weights": (0.25, 0.75)},)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(as_source(part) for part in self.parts))
        for weight in self.weights:
            check_number(self.name, "weights", weight, 0.0, 1.0, open_low=True)
        if len(self.weights) != len(self.parts) or abs(sum(self.weights) - 1) > 1e-9:
            raise SpecError(f"{self.name}: each of {len(self.parts)} parts needs a weight, and weights must sum to 1")

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"parts": [part.to_dict() for part in self.sources]}

    @property
    def sources(self) -> tuple[Source, ...]:
        return tuple(as_source(part) for part in self.parts)

    @property
    def mean(self) -> float:
        return sum(w * part.mean for w, part in zip(self.weights, self.sources, strict=True))

    @property
    def variance(self) -> float:
        pairs = list(zip(self.weights, self.sources, strict=True))
        return sum(w * (part.variance + (part.mean - self.mean) ** 2) for w, part in pairs)

    @property
    def entropy(self) -> float:
        return _mixture_entropy(self)

    def density(self, x: F64) -> F64:
        total: F64 = sum((w * p.density(x) for w, p in zip(self.weights, self.sources, strict=True)), np.zeros(x.shape))
        return total

    def cdf(self, x: F64) -> F64:
        total: F64 = sum((w * p.cdf(x) for w, p in zip(self.weights, self.sources, strict=True)), np.zeros(x.shape))
        return total

    def span(self, tail: float) -> tuple[float, float]:
        spans = [part.span(tail) for part in self.sources]
        return min(low for low, _ in spans), max(high for _, high in spans)

    def draw(self, choice: F64, level: F64) -> F64:
        values = np.empty(choice.shape)
        edges = np.append(0.0, np.cumsum(self.weights))
        edges[-1] = 1.0
        which = np.searchsorted(edges, choice, side="right") - 1
        for k, part in enumerate(self.sources):
            mine = which == k
            # What is left of the choice within its part is uniform again.
            values[mine] = part.draw((choice[mine] - edges[k]) / (edges[k + 1] - edges[k]), level[mine])
        return values

    def split(self) -> Split:
        pairs = [(w, part.split()) for w, part in zip(self.weights, self.sources, strict=True)]
        points = np.concatenate([split.points for _, split in pairs])
        if not points.size:
            return Split(NONE, NONE, self)
        masses = np.concatenate([w * split.masses for w, split in pairs])
        points, where = np.unique(points, return_inverse=True)
        smooth = [(w * split.share, split.rest) for w, split in pairs if split.rest is not None]
        share = sum(w for w, _ in smooth)
        rest: Source | None = None
        if smooth:
            weights = tuple(w / share for w, _ in smooth)
            rest = smooth[0][1] if len(smooth) == 1 else Mixture(parts=tuple(p for _, p in smooth), weights=weights)
        return Split(points, np.bincount(where, masses).astype(np.float64, copy=False), rest)


@functools.lru_cache(maxsize=64)
def _mixture_entropy(source: Mixture) -> float:
    """Differential entropy, bits: Gauss-Legendre between edges that crowd about each part's centre."""
    if source.split().points.size:
        return -math.inf
    low, high = source.span(1e-15)
    steps = (high - low) * np.append(0.0, np.geomspace(1e-12, 1.0, 193))
    centres = [part.mean for part in source.sources]
    edges = np.unique(np.clip(np.concatenate([c + sign * steps for c in centres for sign in (-1, 1)]), low, high))
    nodes, weights = np.polynomial.legendre.leggauss(8)
    half = 0.5 * np.diff(edges)[:, None]
    density = source.density(edges[:-1, None] + half * (1 + nodes))
    return float((half * weights * special.entr(density)).sum() / math.log(2))


@dataclass(frozen=True, kw_only=True)
class SpikeAndSlab(Source):
    """Pruned values: exact zeros, and the values that were kept.

    Parameters
    ----------
    zeros : float
        Probability of an exact zero, in (0, 1).
    slab : Source or str
        The other values; a name (``"laplacian"``) stands for the source of unit variance.
    """

    zeros: float = 0.9
    slab: Source | str = "gaussian"

    name: ClassVar[str] = "spike-and-slab"

    def __post_init__(self) -> None:
        check_number(self.name, "zeros", self.zeros, 1e-12, 1 - 1e-12)
        object.__setattr__(self, "slab", as_source(self.slab))

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"slab": self.kept.to_dict()}

    @property
    def kept(self) -> Source:
        """The source of the values that were kept."""
        return as_source(self.slab)

    @property
    def mean(self) -> float:
        return (1 - self.zeros) * self.kept.mean

    @property
    def variance(self) -> float:
        return (1 - self.zeros) * (self.kept.variance + self.zeros * self.kept.mean**2)

    @property
    def entropy(self) -> float:
        return -math.inf

    def density(self, x: F64) -> F64:
        return (1 - self.zeros) * self.kept.density(x)

    def cdf(self, x: F64) -> F64:
        found: F64 = (1 - self.zeros) * self.kept.cdf(x) + self.zeros * (x >= 0)
        return found

    def span(self, tail: float) -> tuple[float, float]:
        low, high = self.kept.span(min(tail / (1 - self.zeros), 0.5))
        return min(low, 0.0), max(high, 0.0)

    def draw(self, choice: F64, level: F64) -> F64:
        kept = self.kept.draw(np.maximum(choice - self.zeros, 0.0) / (1 - self.zeros), level)
        return np.where(choice < self.zeros, 0.0, kept)

    def split(self) -> Split:
        inner = self.kept.split()
        points, where = np.unique(np.append(inner.points, 0.0), return_inverse=True)
        masses = np.bincount(where, np.append((1 - self.zeros) * inner.masses, self.zeros))
        return Split(points, masses.astype(np.float64, copy=False), inner.rest)


#: Sources by name.
SOURCES: Final[dict[str, type[Source]]] = {
    kind.name: kind for kind in (Gaussian, Laplacian, GeneralisedGaussian, SpikeAndSlab, Mixture, Empirical)
}
