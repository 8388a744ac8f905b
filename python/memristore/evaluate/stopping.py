"""How many arrays it takes for a confidence interval of a wanted width."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np


def arrays_for(stages: Iterable[Sequence[float]], precision: float, most: int) -> int:
    """Return how many arrays the mean needs in all, by Stein's rule, at most `most`.

    Parameters
    ----------
    stages : iterable of sequence of float
        Values of the first arrays, at least two, at each read time.
    precision : float
        Half width of the 95 % confidence interval that is wanted at every read time, in units of the metric.
    most : int
        Upper bound.

    Notes
    -----
    C. Stein, "A two-sample test for a linear hypothesis whose power is independent of the variance", Annals of
    Mathematical Statistics 16, 1945. From the standard deviation s of n0 first values, n = max(n0, ceil((t s / h)^2))
    with Student's t of n0 - 1 degrees of freedom; the interval is the mean of all n values +- t s / sqrt(n), with the s
    of the first n0. Its coverage is at least 95 % for normal values, whatever their variance, since the mean does not
    depend on s. Looking after every array and stopping at the first narrow interval would stop too early: it prefers
    the runs in which the spread happens to look small.
    """
    from scipy.stats import t

    need = 0
    for values in stages:
        count = len(values)
        wide = float(t.ppf(0.975, count - 1)) * float(np.std(values, ddof=1)) / precision
        # A spread of rounding errors must not ask for an array more.
        need = max(need, count, math.ceil(wide * wide - 1e-9) if wide < math.sqrt(most) else most)
    return min(need, most)
