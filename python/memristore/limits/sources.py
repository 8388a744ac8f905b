"""Sources of values: the protocol, and densities that have a formula."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt
from scipy import special

from memristore import _core, rng
from memristore.config import Configurable, check_number

F64 = npt.NDArray[np.float64]

#: No repeated values.
NONE: Final[F64] = np.zeros(0)


@dataclass(frozen=True, eq=False)
class Split:
    """A source taken apart: values that repeat exactly, and what has a density.

    Parameters
    ----------
    points, masses : ndarray, shape (k,)
        The repeated values and their probabilities.
    rest : Source, optional
        Has a density everywhere; its probability is 1 - sum(masses).
    """

    points: F64
    masses: F64
    rest: Source | None

    @property
    def share(self) -> float:
        """Probability of the rest."""
        return 0.0 if self.rest is None else 1.0 - float(self.masses.sum())

    @property
    def choice(self) -> float:
        """Bits per value that say which of the repeated values, or the rest, a value is."""
        masses = np.append(self.masses, self.share)
        return float(special.entr(masses).sum() / math.log(2))


class Source(Configurable):
    """Independent values of one distribution."""

    @property
    def mean(self) -> float:
        """Mean of a value."""
        raise NotImplementedError

    @property
    def variance(self) -> float:
        """Variance of a value."""
        raise NotImplementedError

    @property
    def entropy(self) -> float:
        """Differential entropy in bits; -inf where values repeat exactly."""
        raise NotImplementedError

    def density(self, x: F64) -> F64:
        """Probability density at `x`, any shape, without the values that repeat exactly."""
        raise NotImplementedError

    def cdf(self, x: F64) -> F64:
        """Probability of a value of at most `x`, any shape."""
        raise NotImplementedError

    def span(self, tail: float) -> tuple[float, float]:
        """Interval outside of which lie values with a probability of at most `tail`."""
        raise NotImplementedError

    def draw(self, choice: F64, level: F64) -> F64:
        """Turn two independent uniform numbers on [0, 1) for each value, shape (n,), into values, shape (n,)."""
        raise NotImplementedError

    def split(self) -> Split:
        """Take repeated values and density apart."""
        return Split(NONE, NONE, self)

    def sample(self, n: int, seed: int = 0) -> F64:
        """Draw values.

        Parameters
        ----------
        n : int
            How many.
        seed : int
            Names the sample: same seed, same values, and a longer sample begins with the shorter one.

        Returns
        -------
        ndarray, shape (n,)
        """
        words = np.empty(4 * n, dtype=np.uint32)
        _core.philox(rng.key(seed, "source"), _core.PURPOSES["user"], 0, 0, words)
        high, low = words.reshape(n, 2, 2).astype(np.float64).transpose(2, 1, 0)
        choice, level = (np.floor(high / 32) * 2.0**26 + np.floor(low / 64)) / 2.0**53
        return self.draw(choice, level)


@dataclass(frozen=True, kw_only=True)
class _Symmetric(Source):
    """Generalised Gaussian: p(x) = b / (2 a Gamma(1/b)) exp(-(|x - centre| / a)^b).

    Standard deviation a sqrt(Gamma(3/b) / Gamma(1/b)), entropy log2(2 a Gamma(1/b) / b) + log2(e) / b (Nadarajah,
    Journal of Applied Statistics 32, 2005).
    """

    @property
    def _form(self) -> tuple[float, float, float]:
        """Shape b, scale a, centre."""
        raise NotImplementedError

    @property
    def mean(self) -> float:
        return self._form[2]

    @property
    def variance(self) -> float:
        shape, scale, _ = self._form
        return scale**2 * math.exp(math.lgamma(3 / shape) - math.lgamma(1 / shape))

    @property
    def entropy(self) -> float:
        shape, scale, _ = self._form
        return (math.log(2 * scale / shape) + math.lgamma(1 / shape) + 1 / shape) / math.log(2)

    def density(self, x: F64) -> F64:
        shape, scale, centre = self._form
        height = shape / (2 * scale * math.gamma(1 / shape))
        found: F64 = height * np.exp(-np.power(np.abs(x - centre) / scale, shape))
        return found

    def cdf(self, x: F64) -> F64:
        shape, scale, centre = self._form
        tail = 0.5 * special.gammaincc(1 / shape, np.power(np.abs(x - centre) / scale, shape))
        found: F64 = np.where(x < centre, tail, 1 - tail)
        return found

    def span(self, tail: float) -> tuple[float, float]:
        shape, scale, centre = self._form
        reach = scale * float(special.gammainccinv(1 / shape, tail)) ** (1 / shape)
        return centre - reach, centre + reach

    def draw(self, choice: F64, level: F64) -> F64:
        shape, scale, centre = self._form
        distance = np.power(special.gammaincinv(1 / shape, level), 1 / shape)
        values: F64 = centre + scale * np.where(choice < 0.5, -distance, distance)
        return values


def _scale(shape: float, std: float) -> float:
    return std * math.exp(0.5 * (math.lgamma(1 / shape) - math.lgamma(3 / shape)))


def _check_place(source: Gaussian | Laplacian | GeneralisedGaussian) -> None:
    check_number(source.name, "std", source.std, 0.0, 1e30, open_low=True)
    check_number(source.name, "centre", source.centre, -1e30, 1e30)


@dataclass(frozen=True, kw_only=True)
class Gaussian(_Symmetric):
    """Normal values.

    Parameters
    ----------
    std, centre : float
        Standard deviation and mean.
    """

    std: float = 1.0
    centre: float = 0.0

    name: ClassVar[str] = "gaussian"

    def __post_init__(self) -> None:
        _check_place(self)

    @property
    def _form(self) -> tuple[float, float, float]:
        return 2.0, _scale(2.0, self.std), self.centre


@dataclass(frozen=True, kw_only=True)
class Laplacian(_Symmetric):
    """Two-sided exponential values.

    Parameters
    ----------
    std, centre : float
        Standard deviation and mean.
    """

    std: float = 1.0
    centre: float = 0.0

    name: ClassVar[str] = "laplacian"

    def __post_init__(self) -> None:
        _check_place(self)

    @property
    def _form(self) -> tuple[float, float, float]:
        return 1.0, _scale(1.0, self.std), self.centre


@dataclass(frozen=True, kw_only=True)
class GeneralisedGaussian(_Symmetric):
    """Values of density exp(-|x / a|^shape): 2 is Gaussian, 1 Laplacian, less is peakier with heavier tails.

    Parameters
    ----------
    shape : float
        0.25 to 100.
    std, centre : float
        Standard deviation and mean.
    """

    shape: float = 1.0
    std: float = 1.0
    centre: float = 0.0

    name: ClassVar[str] = "generalised-gaussian"

    def __post_init__(self) -> None:
        _check_place(self)
        check_number(self.name, "shape", self.shape, 0.25, 100.0)

    @property
    def _form(self) -> tuple[float, float, float]:
        return self.shape, _scale(self.shape, self.std), self.centre
