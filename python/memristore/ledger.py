"""The ledger: every cell, by tensor and stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any


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
