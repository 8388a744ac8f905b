"""How the networks of the tasks are trained and pruned; the version is part of the cache key."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

#: Raise when the training code changes in a way that the fields of `Recipe` do not show.
TRAINING_VERSION: Final = 1


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """AdamW under a one-cycle schedule on images moved by small random affine maps.

    Parameters
    ----------
    size : int
        Side of the images, pixels.
    epochs, batch : int
        Passes over the data; images per step.
    rate : float
        Largest learning rate.
    decay : float
        Weight decay.
    rotate : float
        Largest rotation, radians.
    stretch : float
        Largest change of scale and largest shear, as a fraction.
    shift : float
        Largest displacement, pixels.
    prune_steps, prune_epochs : int
        Rounds of gradual pruning, and passes over the data after each.
    prune_rate : float
        Largest learning rate of these.
    """

    size: int
    epochs: int
    batch: int
    rate: float
    decay: float = 0.01
    rotate: float = 0.0
    stretch: float = 0.0
    shift: float = 0.0
    prune_steps: int = 5
    prune_epochs: int = 1
    prune_rate: float = 0.002

    def key(self) -> dict[str, Any]:
        """Return all that the result depends on, as plain values."""
        return {"training_version": TRAINING_VERSION, **asdict(self)}
