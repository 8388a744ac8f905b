"""Exact tensors whose elements are all the same are kept once: counters, masks of ones, folded statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from memristore.masks import fit, merge_parts, tensor_size
from memristore.streams import BitStream, Payload, Stream
from memristore.transform import SEPARATOR, Compressor, Context


@dataclass(frozen=True, kw_only=True)
class Constant(Compressor):
    """Keep one element of every exact tensor whose elements all have the same bits; nothing is lost.

    ``b`` becomes ``b/element``: one byte for the bytes of an element, then the element. Other streams pass, as do
    tensors for which that is not shorter. For folded batch norm, whose statistics are all zeros and all ones.
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
            width = min(max(int(data[0]) if data.size else 1, 1), 16)
            element = fit(data[1:], width)
            out = np.tile(element, tensor_size(context, base) or 0)
            return BitStream(base, out, 8 * out.size, parts["element"].kind)

        return merge_parts(payload, ("element",), join)


def _encode(stream: BitStream, context: Context) -> BitStream:
    count = tensor_size(context, stream.name) if stream.name in context.shapes else None
    if not count or stream.length != 8 * stream.data.size or stream.data.size % count:
        return stream
    width = stream.data.size // count
    elements = stream.data.reshape(count, width)
    if width > 16 or 1 + width >= stream.data.size or (elements != elements[0]).any():
        return stream
    data = np.concatenate([np.array([width], np.uint8), elements[0]])
    return BitStream(f"{stream.name}{SEPARATOR}element", data, 8 * data.size, stream.kind)
