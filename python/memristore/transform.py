"""What compressors and protections have in common: payload in, payload out, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from memristore.config import Configurable
from memristore.errors import SpecError
from memristore.streams import Payload

#: Separates a tensor's name from the parts it was split into. Tensor names are escaped so that they never hold it.
SEPARATOR = "/"


def _no_distortion(sample: npt.NDArray[np.float32]) -> float:
    raise SpecError(
        "this context cannot predict distortions; a transform that chooses by them needs one from `prepare`"
    )


@dataclass(frozen=True)
class Context:
    """What a transform may know: what both sides know without any cell, and (encoder only) what the cells would cost.

    Parameters
    ----------
    shapes : dict
        Shape of each tensor by its stream name; the architecture is known to the decoder.
    distortion : callable
        Encoder only. Predicted mean squared error per value if a sample of values, shape (n,), float32, were stored
        as an analog stream of its own with the recipe's code, mapper and device at the end of the retention time.
    cells_per_value, cells_per_bit : float
        Encoder only. What one analog value and one stored bit cost, in cells.
    threads : int
        Threads for compiled kernels; 0 means all.
    consume : bool
        Whether streams handed in are not looked at again, so that their `spare` memory may be overwritten.
    """

    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    distortion: Callable[[npt.NDArray[np.float32]], float] = _no_distortion
    cells_per_value: float = 1.0
    cells_per_bit: float = 1.125
    threads: int = 0
    consume: bool = False


class Transform(Configurable):
    """Payload-to-payload, invertible up to its stated loss.

    `decode` must not fail on damaged streams (uncorrectable bit errors happen): lengths that no longer agree are cut or
    filled with zeros.
    """

    def encode(self, payload: Payload, context: Context) -> Payload:
        """Return the transformed payload. Streams that do not concern the transform pass unchanged."""
        raise NotImplementedError

    def decode(self, payload: Payload, context: Context) -> Payload:
        """Undo :meth:`encode` on a payload that holds all parts of some of its tensors."""
        raise NotImplementedError


class Compressor(Transform):
    """A transform of the source-coding stage; sees the whole network at once."""

    #: Where the method comes from, for the registry's table.
    source: ClassVar[str] = ""
    #: Whether values that are exactly zero come back exactly zero on perfect cells, so that pruned ones stay pruned.
    keeps_zeros: ClassVar[bool] = True

    #: Whether NaN and infinity are taken, and given back bit for bit.
    takes_nonfinite: ClassVar[bool] = False

    def for_array(self, array: npt.NDArray[Any]) -> Compressor:
        """Return settings that keep this compressor's promise for an array of another type than float32.

        Arrays are coded as float32 and come back in their own type (`memristore.compress.arrays`).
        """
        return self


class Protection(Transform):
    """A transform that moves what matters into the right stream; sees one stream of one tensor at a time."""

    #: Bits that it adds for each value it protects.
    bits_per_value: ClassVar[float] = 0.0
