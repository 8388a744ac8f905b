"""Entropy coding: bits that are not evenly spread take fewer cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from memristore.config import check_number
from memristore.errors import SpecError
from memristore.masks import BIT_MASK_HEADER, decode_mask, encode_mask, fit, merge_parts
from memristore.streams import BitStream, Payload, Stream
from memristore.symbol_blocks import U8, decode_block, encode_block, pack, unpack
from memristore.transform import SEPARATOR, Context, Protection

#: Header of the list of blocks: symbol width (with a mark for masks), bytes of an end, number of symbols; kept thrice.
_HEADER: Final = 7
_COPIES: Final = 3
_MASK_MARK: Final = 0x80


@dataclass(frozen=True, kw_only=True)
class Entropy(Protection):
    """Code every bit stream near its entropy; meant as the last protection.

    ``w/mask`` becomes ``w/mask/coded`` and ``w/mask/blocks`` where both together take fewer bits; other streams pass,
    as do those with a code of their own (``outer_code=False``). Symbols are those that the stream's maker names
    (:attr:`BitStream.symbol_bits`): single bits of masks and flags, codes of quantisers, words of exact values. Each
    block is coded with a model of its own: a share of ones, a table of log-probabilities, or a log-probability that is
    a polynomial of the distance from the median, whichever takes fewest bits. Symbols of more than 12 bits are split:
    their low bits are kept as they are.

    Streams come back bit for bit, with one exception: a mask is coded, and comes back, as one bit per value even if it
    was written as run lengths, which do not code as well; it says the same.

    Parameters
    ----------
    block : int
        Symbols per block, a multiple of 8. A block is decoded without the others: wrong bits in one cost that
        block's symbols, a wrong end in the list of blocks costs the two beside it. The list's header is kept thrice and
        voted on. A block costs 3 to some 200 bytes for its model (more with more symbols) and up to 5 for its end.

    Raises
    ------
    SpecError
        If the block size is out of range.
    """

    name: ClassVar[str] = "entropy"
    #: Settings that the contract tests try.
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"block": 512})
    block: int = 65536

    def __post_init__(self) -> None:
        check_number("entropy", "block", self.block, 8, 1 << 24, integer=True)
        if self.block % 8:
            raise SpecError(f"entropy: block must be a multiple of 8, not {self.block}")

    def encode(self, payload: Payload, context: Context) -> Payload:
        """Code every bit stream that gains; all others pass."""
        out: list[Stream] = []
        for stream in payload:
            out.extend(self._encode(stream, context) if isinstance(stream, BitStream) else (stream,))
        return Payload(out)

    def decode(self, payload: Payload, context: Context) -> Payload:
        """Give the streams their bits back; a damaged list of blocks may make one shorter or longer."""

        def join(base: str, parts: dict[str, Any]) -> Stream:
            return self._decode(base, parts["coded"], parts["blocks"])

        return merge_parts(payload, ("coded", "blocks"), join)

    def _encode(self, stream: BitStream, context: Context) -> list[Stream]:
        if not stream.outer_code or stream.length < 8 * (_HEADER * _COPIES + 8):
            return [stream]
        data, count, width, mark = stream.data, stream.length // stream.symbol_bits, stream.symbol_bits, 0
        mask = _mask_bits(stream, context)
        if mask is not None:
            data, count, mark = np.packbits(mask, bitorder="little"), mask.size, _MASK_MARK
        blocks: list[U8] = []
        for start, stop in self._spans(count):
            blocks.append(encode_block(unpack(data[start * width // 8 :], width, stop - start), width))
        ends = np.cumsum([block.size for block in blocks], dtype=np.int64)
        wide = max(1, (int(ends[-1]).bit_length() + 7) // 8)
        header = bytes([width | mark, wide]) + count.to_bytes(5, "little")
        listed = ends.astype("<i8").view(np.uint8).reshape(-1, 8)[:, :wide].reshape(-1)
        side = np.concatenate([np.frombuffer(header * _COPIES, np.uint8), listed])
        coded = np.concatenate(blocks)
        if 8 * (coded.size + side.size) >= stream.length:
            return [stream]
        return [
            BitStream(f"{stream.name}{SEPARATOR}coded", coded, 8 * coded.size, stream.kind),
            BitStream(f"{stream.name}{SEPARATOR}blocks", side, 8 * side.size, stream.kind),
        ]

    def _decode(self, base: str, coded: BitStream, side: BitStream) -> BitStream:
        width, mark, count, ends = self._read_list(side)
        ends = np.clip(ends, 0, coded.data.size)
        parts: list[U8] = []
        start = 0
        for (first, last), end in zip(self._spans(count), ends.tolist(), strict=False):
            parts.append(pack(decode_block(coded.data[start:end], width, last - first), width))
            start = end
        data = np.concatenate(parts) if parts else np.zeros(0, np.uint8)
        if mark:
            data = np.concatenate([np.zeros(BIT_MASK_HEADER // 8, np.uint8), data])
            return BitStream(base, data, BIT_MASK_HEADER + count, coded.kind)
        return BitStream(base, data, count * width, coded.kind, symbol_bits=width)

    def _spans(self, count: int) -> Iterator[tuple[int, int]]:
        for start in range(0, count, self.block):
            yield start, min(start + self.block, count)

    def _read_list(self, side: BitStream) -> tuple[int, bool, int, npt.NDArray[np.int64]]:
        """Width, whether it is a mask, number of symbols and ends of blocks; always such that they go together."""
        a, b, c = fit(side.data, _COPIES * _HEADER).reshape(_COPIES, _HEADER)
        header = (a & b) | (a & c) | (b & c)
        width, wide = int(header[0]) & ~_MASK_MARK, min(max(int(header[1]), 1), 5)
        mark = bool(header[0] & _MASK_MARK)
        width = 1 if mark else 32 if width > 16 else max(width, 1)
        listed = side.data[_COPIES * _HEADER :]
        rows = listed.size // wide
        bytes_of = np.zeros((rows, 8), np.uint8)
        bytes_of[:, :wide] = listed[: rows * wide].reshape(rows, wide)
        ends = bytes_of.view("<i8").reshape(-1).astype(np.int64)
        # The number of blocks is known from the length of the list; it bounds what a damaged number can ask for.
        count = int.from_bytes(header[2:].tobytes(), "little")
        return width, mark, min(max(count, (rows - 1) * self.block + 1), rows * self.block), ends


def _mask_bits(stream: BitStream, context: Context) -> npt.NDArray[np.bool_] | None:
    """Return a mask's truth values, or None if the stream is no mask of `memristore.masks`."""
    if stream.kind != "mask":
        return None
    mask = decode_mask(stream, context)
    if mask.size == 0:
        return None
    again = encode_mask(stream.name, mask, context)
    same = again.length == stream.length and np.array_equal(again.data, stream.data)
    plain = stream.length == BIT_MASK_HEADER + mask.size and stream.data[0] == 0
    return mask if same or plain else None
