"""The ledger: every cell, by tensor and stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from memristore.torch_io import base_of
from memristore.transform import SEPARATOR
from memristore.units import format_time

if TYPE_CHECKING:
    from memristore.bit_cells import BitCells
    from memristore.sizing import BitFormat
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


def _extrapolation(found: BitFormat, samples: int | None) -> str:
    notes = []
    if samples and any(part.channel.raw_error * samples < 1 for part in found.parts):
        notes.append(f"tails extrapolated beyond {samples:,} measured writes")
    floors = [part.code.measured_floor for part in found.parts if part.block_error < part.code.measured_floor]
    if floors:
        notes.append(f"block error extrapolated below {max(floors):.0e}")
    return f" ({'; '.join(notes)})" if notes else ""


def _bit_rows(model: StoredModel, bits: BitCells, words: str, names: dict[str, str]) -> list[Row]:
    """Rows of a bit area. Cells are shared out by bits; rounding goes along the area, so that rows add up to it."""
    found = bits.format
    rows, used, cells = [], 0, 0

    def take(count: int) -> int:
        nonlocal used, cells
        used += count
        taken = round(bits.cells_below(used)) - cells
        cells += taken
        return taken

    for region in bits.regions.values():
        tensor = names.get(base_of(region.name), "(array)")
        part = region.name.removeprefix(base_of(region.name)).lstrip(SEPARATOR).replace(PLANES, " planes")
        rows.append(Row(tensor, part or "bits", region.kind, region.length, take(region.bytes)))
    if not bits.data_bytes:
        return rows
    spare = bits.data_bytes - bits.payload_bytes
    rows.append(Row("(array)", words, "padding", 8 * spare, take(spare)))
    parity = sum(len(area.rows) * area.code.check_bits for area in bits.areas)
    verdict = "met" if found.met else f"NOT met (target {found.target:g})"
    note = (
        f"{found.describe()}, {100 * found.code.check_bits / found.code.block_data_bits:.1f} % overhead, "
        f"{found.net_bits_per_cell:.2f} net bits per cell, sized for raw error {found.channel.raw_error:.1e} after "
        f"{format_time(model.spec.retention_seconds)}: block error {found.worst_error:.1e}, "
        f"{verdict}{_extrapolation(found, model.spec.cell.samples)}"
    )
    rows.append(Row("(array)", words, "parity", parity, bits.cells - cells, note))
    return rows


def build_ledger(model: StoredModel) -> Ledger:
    """Count the cells of a stored model."""
    rows: list[Row] = []
    names = {e.base: e.name for e in model.entries if e.kind != "alias"}
    for name, stream in model.streams.items():
        tensor, part = names[base_of(name)], name.removeprefix(base_of(name)).lstrip(SEPARATOR)
        block = stream.block
        each = "value" if block.n == block.values else "two values"
        note = f"{stream.code.name}, {len(block.states)} cells per {each}" if block.states else "constant: no cells"
        rows.append(Row(tensor, part or "values", "data", block.values, block.cells, note))
    rows.extend(_bit_rows(model, model.bits, "words", names))
    rows.extend(_bit_rows(model, model.in_place, "in-place words", names))
    if model.references.states:
        rows.append(Row("(array)", "drift", "reference", model.references.n, model.references.cells))
    # Tensors in the order of the network, what serves all of them last.
    order = {e.name: i for i, e in enumerate(model.entries)}
    rows.sort(key=lambda row: order.get(row.tensor, len(order)))
    return Ledger(rows, model.weights)
