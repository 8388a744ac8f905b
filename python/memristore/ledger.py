"""The ledger: every cell, by tensor and stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from memristore.bit_cells import BLOCK_ERROR
from memristore.torch_io import base_of
from memristore.transform import SEPARATOR
from memristore.units import format_time

if TYPE_CHECKING:
    from memristore.stored import StoredModel

#: Ending of the streams that hold side information. Tensor names cannot clash: theirs hold no bare separator.
PLANES: Final = f"{SEPARATOR}{SEPARATOR}planes"


@dataclass(frozen=True)
class Row:
    """Cells of one stream.

    Parameters
    ----------
    tensor, stream : str
        Tensor (or ``"(array)"`` for what serves all) and stream.
    kind : str
        ``"data"`` for analog streams; ``"sign"``, ``"flag"``, ``"mask"``, ``"scale"``, ``"exact"``, ``"index"``,
        ``"codebook"`` for bits; ``"parity"``, ``"padding"``, ``"reference"``.
    items : int
        Values of an analog stream, bits of a bit stream.
    cells : int
    note : str
        Code and planes, or what a code was sized for.
    """

    tensor: str
    stream: str
    kind: str
    items: int
    cells: int
    note: str = ""


class Ledger:
    """All rows of a stored model.

    Parameters
    ----------
    rows : list of Row
    weights : int
        Parameters of the original network, batch-norm statistics included.
    """

    def __init__(self, rows: list[Row], weights: int) -> None:
        self.rows = rows
        self.weights = weights

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def total(self) -> int:
        """All cells."""
        return sum(row.cells for row in self.rows)

    @property
    def cells_per_weight(self) -> float:
        """All cells over all weights of the original network; NaN for a network without weights."""
        return self.total / self.weights if self.weights else float("nan")

    def by_kind(self) -> dict[str, int]:
        """Cells by kind, most first."""
        out: dict[str, int] = {}
        for row in self.rows:
            out[row.kind] = out.get(row.kind, 0) + row.cells
        return dict(sorted(out.items(), key=lambda item: -item[1]))

    def to_dicts(self) -> list[dict[str, Any]]:
        """Rows as plain dicts."""
        return [asdict(row) for row in self.rows]

    def __str__(self) -> str:
        head = ("tensor", "stream", "kind", "items", "cells", "note")
        body = [(r.tensor, r.stream, r.kind, f"{r.items:,}", f"{r.cells:,}", r.note) for r in self.rows]
        total = (
            "total",
            "",
            "",
            f"{self.weights:,} weights",
            f"{self.total:,}",
            f"{self.cells_per_weight:.4g} cells per weight",
        )
        table = [head, *body, total]
        widths = [max(len(line[i]) for line in table) for i in range(len(head))]
        right = {3, 4}
        lines = [
            "  ".join(
                c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in table
        ]
        rule = "-" * max(len(line) for line in lines)
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def planes_stream(stream: str) -> str:
    """Name of the bit stream that holds the side information of an analog stream's planes."""
    return stream + PLANES


def _extrapolation(model: StoredModel) -> str:
    samples = model.spec.cell.samples
    if not samples or model.bits.sizing.raw_error * samples >= 1:
        return ""
    return f" (tails extrapolated beyond {samples:,} measured writes)"


def build_ledger(model: StoredModel) -> Ledger:
    """Count the cells of a stored model."""
    rows: list[Row] = []
    names = {e.base: e.name for e in model.entries if e.kind != "alias"}
    wide = model.bits.sizing.cells_per_bit
    for name, stream in model.streams.items():
        tensor, part = names[base_of(name)], name.removeprefix(base_of(name)).lstrip(SEPARATOR)
        note = (
            f"{stream.code.name}, {len(stream.block.states)} cells per value"
            if stream.block.states
            else "constant: no cells"
        )
        rows.append(Row(tensor, part or "values", "data", stream.block.n, stream.block.cells, note))
    for region in model.bits.regions.values():
        tensor = names.get(base_of(region.name), "(array)")
        part = region.name.removeprefix(base_of(region.name)).lstrip(SEPARATOR).replace(PLANES, " planes")
        rows.append(Row(tensor, part or "bits", region.kind, region.length, region.bytes * 8 * wide))
    s = model.bits.sizing
    if model.bits.data_words:
        spare = model.bits.data_words * 64 - model.bits.payload_bytes * 8
        verdict = "met" if s.met else f"NOT met (target {BLOCK_ERROR:g})"
        note = (
            f"{model.spec.bits.name}, {wide} single-level cell(s) per bit, sized for raw error "
            f"{s.raw_error:.1e} after {format_time(model.spec.retention_seconds)}: block error "
            f"{s.block_error:.1e}, {verdict}{_extrapolation(model)}"
        )
        parity = model.bits.data_words * model.spec.bits.check_bits
        rows.append(Row("(array)", "words", "padding", spare, spare * wide))
        rows.append(Row("(array)", "words", "parity", parity, parity * wide, note))
    if model.references.states:
        rows.append(Row("(array)", "drift", "reference", model.references.n, model.references.cells))
    # Tensors in the order of the network, what serves all of them last.
    order = {e.name: i for i, e in enumerate(model.entries)}
    rows.sort(key=lambda row: order.get(row.tensor, len(order)))
    return Ledger(rows, model.weights)
