"""Exact tensors whose elements are all the same are kept once: counters, masks of ones, folded statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np

from memristore.masks import fit, merge_parts, tensor_size
from memristore.streams import BitStream, Payload, Stream
from memristore.transform import SEPARATOR, Compressor, Context

#: Most bytes of an element: that of complex128.
_WIDEST: Final = 16


@dataclass(frozen=True, kw_only=True)
class Constant(Compressor):
    """Keep one element of every exact tensor whose elements all have the same bits; nothing is lost.

    ``b`` becomes ``b/element``: one byte for the number of bytes of an element and of those at its start that are zero,
    then the others up to the last that is not zero. Other streams pass, as do tensors for which that is not shorter.
    For folded batch norm, whose statistics are all zeros and all ones, and for counters of batches.
    """

    name: ClassVar[str] = "constant"
    source: ClassVar[str] = "none"

    def encode(self, payload: Payload, context: Context) -> Payload:
        """Shorten exact tensors that hold one value; others pass."""
        return Payload(_encode(s, context) if isinstance(s, BitStream) else s for s in payload)

    def decode(self, payload: Payload, context: Context) -> Payload:
        """Repeat the elements; damaged bits may give any value, and zeros where the width is damaged."""

        def join(base: str, parts: dict[str, Any]) -> Stream:
            data = parts["element"].data
            # The tensor's own dtype sets the width again when it is rebuilt: only damage makes them differ.
            head = int(data[0]) if data.size else 0
            width = head % _WIDEST + 1
            element = fit(np.concatenate([np.zeros(head // _WIDEST, np.uint8), data[1:]]), width)
            out = np.tile(element, tensor_size(context, base) or 0)
            return BitStream(base, out, 8 * out.size, parts["element"].kind)

        return merge_parts(payload, ("element",), join)


def _encode(stream: BitStream, context: Context) -> BitStream:
    count = tensor_size(context, stream.name) if stream.name in context.shapes else None
    if not count or stream.length != 8 * stream.data.size or stream.data.size % count:
        return stream
    width = stream.data.size // count
    elements = stream.data.reshape(count, width)
    if width > _WIDEST or (elements != elements[0]).any():
        return stream
    used = np.flatnonzero(elements[0])
    first, end = (int(used[0]), int(used[-1]) + 1) if used.size else (0, 0)
    data = np.concatenate([np.array([_WIDEST * first + width - 1], np.uint8), elements[0][first:end]])
    if data.size >= stream.data.size:
        return stream
    return BitStream(f"{stream.name}{SEPARATOR}element", data, 8 * data.size, stream.kind)
