"""Planes by sensitivity: cells go where an error costs the most loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from memristore.allocate import Allocator
from memristore.allocate.budget import least_loss
from memristore.config import check_number
from memristore.errors import SpecError


@dataclass(frozen=True, kw_only=True)
class Sensitive(Allocator):
    """Choose the planes of each tensor so that the predicted loss is least for an average number of planes.

    Minimises ``sum_l s_l * n_l * D_l(planes_l)`` subject to ``sum_l n_l * planes_l <= mean * sum_l n_l``, with s the
    loss per squared error of a value, n the number of values and D the predicted mean squared error per value. In a
    recipe D is that of the recipe's own code, mapper and device for the tensor's values at the end of the retention
    time; alone (``planes(sizes)``) it is ``1 / planes``, that of an average of equally noisy cells.

    Parameters
    ----------
    mean : float
        Budget: planes per value on average, in [minimum, maximum].
    sensitivity : mapping, or pairs of (tensor name, loss per squared error)
        Not negative; for example ``per_tensor(kl(model, batches))`` of `memristore.allocate.sensitivity`. Kept as
        pairs. Names that are not stored as analog values (batch-norm statistics) do no harm.
    others : float, optional
        Sensitivity of tensors that are not named; None: there must be none.
    minimum, maximum : int
        Limits for each tensor, 1 to 64.

    Raises
    ------
    SpecError
        If the settings do not fit together.

    Notes
    -----
    The choice is found by `memristore.allocate.budget.least_loss`: the optimum in all but contrived cases. The decoder
    learns each tensor's planes from the directory, whose bits are counted.
    """

    name: ClassVar[str] = "sensitive"
    #: Settings that the contract tests try.
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"mean": 2.0, "others": 1.0},
        {"mean": 1.5, "sensitivity": (("w", 3.0), ("c1.w", 0.5)), "others": 0.25, "maximum": 4},
    )
    mean: float
    # Not shown: a network has hundreds of tensors.
    sensitivity: tuple[tuple[str, float], ...] = field(default=(), repr=False)
    others: float | None = None
    minimum: int = 1
    maximum: int = 15

    def __post_init__(self) -> None:
        check_number(self.name, "minimum", self.minimum, 1, 64, integer=True)
        check_number(self.name, "maximum", self.maximum, self.minimum, 64, integer=True)
        check_number(self.name, "mean", self.mean, self.minimum, self.maximum)
        if self.others is not None:
            check_number(self.name, "others", self.others, 0, 1e300)
        given: Any = self.sensitivity
        try:
            pairs = tuple((name, value) for name, value in (given.items() if isinstance(given, Mapping) else given))
        except (TypeError, ValueError):
            raise SpecError(
                f"{self.name}: sensitivity must be a mapping or pairs of (tensor name, number), not {given!r:.200}"
            ) from None
        for name, value in pairs:
            if not isinstance(name, str):
                raise SpecError(f"{self.name}: sensitivity names tensors by strings, not {name!r}")
            check_number(self.name, f"sensitivity of {name}", value, 0, 1e300)
        if len(dict(pairs)) < len(pairs):
            raise SpecError(f"{self.name}: sensitivity names a tensor twice")
        object.__setattr__(self, "sensitivity", pairs)

    def planes(self, sizes: Mapping[str, int], distortion: Callable[[str, int], float] | None = None) -> dict[str, int]:
        """Return the number of planes of each tensor; see `Allocator.planes`. Empty tensors get the minimum."""
        weights = self._weights(sizes)
        out = dict.fromkeys(sizes, self.minimum)
        names = [name for name in sizes if sizes[name] > 0]
        # Nothing to choose: errors, which take long to predict, are not asked for.
        if not names or self.mean == self.minimum:
            return out
        levels = np.arange(self.minimum, self.maximum + 1)
        counts = np.array([sizes[name] for name in names], np.int64)
        if distortion is None:
            errors = np.broadcast_to(1.0 / levels, (len(names), levels.size))
        else:
            errors = np.array([[distortion(name, int(p)) for p in levels] for name in names])
        loss = np.array([weights[name] for name in names])[:, None] * counts[:, None] * errors
        # The tolerance keeps a budget such as 1.1 * 10 = 11.000000000000002 or 10.999999999999998 at 11 cells.
        budget = int(self.mean * int(counts.sum()) * (1 + 1e-12) + 1e-9)
        chosen = least_loss(counts[:, None] * levels, loss, budget).choice
        out.update((name, int(levels[k])) for name, k in zip(names, chosen, strict=True))
        return out

    def _weights(self, sizes: Mapping[str, int]) -> dict[str, float]:
        known = dict(self.sensitivity)
        for name, size in sizes.items():
            if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 0:
                raise SpecError(f"{self.name}: the size of {name} must be a non-negative integer, not {size!r}")
            if name not in known and self.others is None:
                raise SpecError(
                    f"{self.name}: no sensitivity is given for the tensor {name}; there are "
                    f"{', '.join(list(known)[:8]) or 'none'}. Give it, or others=... for all that are not named"
                )
        return {name: float(known.get(name, self.others or 0.0)) for name in sizes}
