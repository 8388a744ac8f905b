"""Sparsity: zeros take no analog cells; a mask says where they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from memristore.errors import SpecError
from memristore.masks import decode_mask, drop_zeros, encode_mask, fit, merge_parts
from memristore.streams import AnalogStream, Payload, Stream
from memristore.transform import SEPARATOR, Context, Protection

#: Cells that a bit takes on single-level cells with SECDED (72,64).


@dataclass(frozen=True, kw_only=True)
class Sparsity(Protection):
    """Store only the values that are not zero, and a mask.

    ``w`` becomes ``w/nonzero`` (compacted, in order) and ``w/mask``: one bit per value or run lengths of zeros,
    whichever is smaller, with a counted header. The zeros come back as exact zeros. A stream without zeros passes
    unchanged.

    Parameters
    ----------
    when : {"pays", "always"}
        ``"pays"`` splits a stream only if that lowers its number of cells: a dropped value saves the cells of its
        planes and of the sign and flag bits that later protections would give it, a bit of the mask costs those of a
        coded bit (1.125 on single-level cells with SECDED). Unsplit zeros are stored as values and come back with
        noise. With one cell per value and nothing else, masks pay from about 82 % of zeros.
        ``"always"`` splits every stream that holds a zero: more cells, but exact zeros.

    Raises
    ------
    SpecError
        If `when` is something else.
    """

    name: ClassVar[str] = "sparsity"
    #: Settings that the contract tests try.
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"when": "always"})
    when: str = "pays"

    def __post_init__(self) -> None:
        if self.when not in ("pays", "always"):
            raise SpecError(f"sparsity: when must be 'pays' or 'always', not {self.when!r}")

    def encode(self, payload: Payload, context: Context) -> Payload:
        """Split every analog stream that has (enough) zeros; all others pass."""
        out: list[Stream] = []
        for stream in payload:
            out.extend(self._split(stream, context) if isinstance(stream, AnalogStream) else (stream,))
        return Payload(out)

    def decode(self, payload: Payload, context: Context) -> Payload:
        """Put the zeros back."""

        def join(base: str, parts: dict[str, Any]) -> Stream:
            nonzero = decode_mask(parts["mask"], context)
            values = np.zeros(nonzero.size, np.float32)
            values[nonzero] = fit(parts["nonzero"].values, int(np.count_nonzero(nonzero)))
            return AnalogStream(base, values)

        return merge_parts(payload, ("nonzero", "mask"), join)

    def _split(self, stream: AnalogStream, context: Context) -> list[Stream]:
        nonzero = stream.values != 0
        zeros = nonzero.size - int(np.count_nonzero(nonzero))
        if zeros == 0:
            return [stream]
        mask = encode_mask(f"{stream.name}{SEPARATOR}mask", nonzero, context)
        if self.when == "pays" and zeros * context.cells_per_value <= context.cells_per_bit * mask.length:
            return [stream]
        return [drop_zeros(stream, nonzero, f"{stream.name}{SEPARATOR}nonzero"), mask]
