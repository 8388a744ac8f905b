"""Results side by side: table, data frame, picture and JSON."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from memristore.errors import FileError, SpecError
from memristore.evaluate.result import Evaluation, Metric
from memristore.units import format_time

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure
    from rich.table import Table

SCHEMA: Final = "memristore.evaluation"
VERSION: Final = 1


class Comparison:
    """Several evaluations with the same metric, one row each.

    Parameters
    ----------
    evaluations : sequence of Evaluation
        At least one; schemes are told apart by their names.
    title : str
        Heading of table and picture.

    Raises
    ------
    SpecError
        If there is none, or if the metrics differ.
    """

    def __init__(self, evaluations: Sequence[Evaluation], title: str = "") -> None:
        self.evaluations = tuple(evaluations)
        self.title = title
        if not self.evaluations:
            raise SpecError("a comparison needs at least one evaluation")
        if len({evaluation.metric for evaluation in self.evaluations}) > 1:
            raise SpecError("evaluations of different metrics cannot be compared in one table")

    @property
    def metric(self) -> Metric:
        """What the numbers mean."""
        return self.evaluations[0].metric

    @property
    def times(self) -> list[float]:
        """All read times, seconds, ascending."""
        return sorted({result.at_seconds for evaluation in self for result in evaluation.results})

    def __iter__(self) -> Iterator[Evaluation]:
        return iter(self.evaluations)

    def __len__(self) -> int:
        return len(self.evaluations)

    def __getitem__(self, scheme: str) -> Evaluation:
        """Return the evaluation of a scheme; KeyError if there is none."""
        for evaluation in self.evaluations:
            if evaluation.scheme == scheme:
                return evaluation
        raise KeyError(scheme)

    def __str__(self) -> str:
        return print_table(self.table())

    def table(self, baseline: str | None = None) -> Table:
        """Mean ± 95 % CI per read time, and cells per weight.

        Parameters
        ----------
        baseline : str, optional
            A scheme; adds a column with the factor of cells that each row saves against it.
        """
        from rich.table import Table

        base = None if baseline is None else self[baseline].cells_per_weight
        table = Table(title=self.title or None, caption=f"{self.metric.label}: mean ± 95 % confidence interval")
        table.add_column("scheme", no_wrap=True)
        table.add_column("cells/weight", justify="right", no_wrap=True)
        if base is not None:
            table.add_column("fewer cells", justify="right", no_wrap=True)
        bits = any(row.net_bits_per_cell is not None for row in self.evaluations)
        if bits:
            table.add_column("net bits/cell", justify="right", no_wrap=True)
        table.add_column("no noise", justify="right", no_wrap=True)
        for time in self.times:
            table.add_column("at once" if time == 0 else format_time(time), justify="right", no_wrap=True)
        for row in self.evaluations:
            cells = [row.scheme, f"{row.cells_per_weight:.3g}"]
            if base is not None:
                cells.append(f"{base / row.cells_per_weight:.3g}x" if row.cells_per_weight else "")
            if bits:
                cells.append("" if row.net_bits_per_cell is None else f"{row.net_bits_per_cell:.2f}")
            cells.append(self.metric.text(row.compressed))
            found = {result.at_seconds: result for result in row.results}
            for time in self.times:
                cells.append(self.metric.text(found[time].mean, found[time].ci95) if time in found else "")
            table.add_row(*cells)
        return table

    def to_dataframe(self) -> pandas.DataFrame:
        """One line per scheme and read time, in the units of the metric and seconds."""
        import pandas

        lines = []
        for row in self.evaluations:
            head = {"scheme": row.scheme, "cells_per_weight": row.cells_per_weight}
            head |= {"net_bits_per_cell": row.net_bits_per_cell, "clean": row.clean, "compressed": row.compressed}
            for result in row.results:
                line = head | {k: v for k, v in result.to_dict().items() if k not in ("values", "reads", "also")}
                lines.append(line | {name: result.mean_of(name)[0] for name in result.also})
        return pandas.DataFrame(lines)

    def plot(self, path: str | os.PathLike[str] | None = None, *, against: str = "cells") -> Figure:
        """Draw the metric against cells per weight (a panel per read time), or against time.

        Parameters
        ----------
        path : path, optional
            Where to save the picture; the ending decides the format.
        against : {"cells", "time"}
            Horizontal axis.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from memristore.evaluate import plots

        if against not in ("cells", "time"):
            raise SpecError(f"plot: against must be 'cells' or 'time', not {against!r}")
        figure = plots.against_cells(self) if against == "cells" else plots.against_time(self)
        if path is not None:
            plots.save(figure, path)
        return figure

    def to_dict(self) -> dict[str, Any]:
        """The document that `to_json` writes."""
        document: dict[str, Any] = {"schema": SCHEMA, "version": VERSION, "title": self.title}
        document["metric"] = {
            "name": self.metric.name,
            "unit": self.metric.unit,
            "higher_is_better": self.metric.higher_is_better,
        }
        document["rows"] = [evaluation.to_row() for evaluation in self.evaluations]
        return document

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the result as JSON, and write it to `path` if given."""
        text = json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    @classmethod
    def from_dict(cls, document: object, where: str = "the document") -> Comparison:
        """Rebuild from :meth:`to_dict`'s form; FileError if it is another document or lacks something."""
        if not isinstance(document, dict) or document.get("schema") not in (SCHEMA, "memristore.demo"):
            raise FileError(f"{where}: not a result of memristore (no 'schema': {SCHEMA!r})")
        if document.get("version") != VERSION:
            raise FileError(f"{where}: version {document.get('version')!r} is not known; this release reads {VERSION}")
        try:
            metric = Metric(**document["metric"])
            rows = [Evaluation.from_row(row, metric) for row in document["rows"]]
            return cls(rows, str(document.get("title", "")))
        except (KeyError, TypeError, ValueError) as error:
            raise FileError(f"{where}: a result lacks or garbles something ({error!r})") from error

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> Comparison:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        FileError
            If the file cannot be read or is not such a result.
        """
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise FileError(f"{os.fspath(path)}: cannot be read as JSON ({error})") from error
        return cls.from_dict(document, os.fspath(path))


def print_table(table: Table, width: int = 160) -> str:
    """Render a table as plain text, without colours, at most `width` characters wide."""
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(table)
    return out.getvalue().rstrip("\n")
