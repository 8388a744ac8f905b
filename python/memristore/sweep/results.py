"""Results of sweeps: what a file holds, as rows, data frames and comparisons."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from memristore.errors import FileError, SpecError
from memristore.evaluate.comparison import Comparison
from memristore.evaluate.result import Evaluation, Metric, Result
from memristore.sweep.claims import Claim
from memristore.sweep.plan import Sweep
from memristore.sweep.schema import connect, named, transaction
from memristore.sweep.tables import canonical, digest
from memristore.units import format_time

if TYPE_CHECKING:
    import pandas

#: Columns of a result that decide whether two are the same, in the order in which they are hashed.
_VALUES: Final = (
    "value",
    "cells",
    "weights",
    "bits_raw_errors",
    "words_corrected",
    "words_failed",
    "believed_seconds",
    "layers",
)


class SweepResults:
    """A file of results.

    Parameters
    ----------
    path : path
        SQLite file, made by `run_sweep`. It may be read while runners write to it.

    Raises
    ------
    FileError
        If there is no such file, or it is damaged, foreign or of another version.

    Examples
    --------
    >>> from memristore import SweepResults
    >>> SweepResults("results.db").to_dataframe()  # doctest: +SKIP
    """

    def __init__(self, path: str | os.PathLike[str], *, create: bool = False) -> None:
        self.path = Path(path)
        self.db = connect(self.path, create=create)

    def __enter__(self) -> SweepResults:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.db.close()

    def __len__(self) -> int:
        return self.counts().get("done", 0)

    # -- writing: what runners do --------------------------------------------------------------------------------

    def add(self, sweep: Sweep) -> str:
        """Register a sweep and its points, those that are not there already; returns the key of the sweep."""
        document = sweep.to_dict()
        key = digest(document)
        with named(self.path), transaction(self.db) as db:
            db.execute(
                "INSERT OR IGNORE INTO sweeps VALUES (?, ?, ?, ?)", (key, sweep.name, canonical(document), time.time())
            )
            (start,) = db.execute("SELECT coalesce(max(position) + 1, 0) FROM recipes").fetchone()
            for offset, recipe in enumerate(sweep.recipes()):
                # Names and the place of data may change from run to run; what decides results is in the key.
                db.execute(
                    "INSERT INTO recipes (key, position, model, scheme, device, kind, source, spec)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET"
                    " model = excluded.model, scheme = excluded.scheme, source = excluded.source",
                    (
                        recipe.key,
                        start + offset,
                        recipe.model,
                        recipe.scheme,
                        recipe.device,
                        recipe.kind,
                        canonical(recipe.source.to_dict()),
                        canonical(recipe.spec.to_dict(full_device=True)),
                    ),
                )
                rows = [(recipe.key, seed, at) for seed in sweep.arrays for at in sweep.seconds]
                db.executemany("INSERT OR IGNORE INTO points (recipe, seed, at_seconds) VALUES (?, ?, ?)", rows)
                db.executemany("INSERT OR IGNORE INTO members VALUES (?, ?, ?, ?)", [(key, *row) for row in rows])
        return key

    def keep(self, claim: Claim, found: dict[str, Any]) -> int:
        """Keep what an array gave, all of it or nothing; returns how many results that added.

        A result that is there already stays: another runner took over while this one was thought to be gone.
        """
        with named(self.path), transaction(self.db) as db:
            if "error" not in found:
                found = self._settle_about(db, claim, found)
            if "error" in found:
                return self._keep_error(db, claim, found)
            added = 0
            for result in found["results"]:
                values = [canonical(result[name]) if name == "layers" else result[name] for name in _VALUES]
                added += db.execute(
                    f"UPDATE points SET state = 'done', owner = NULL, lease = NULL, error = NULL, finished = ?,"
                    f" seconds = ?, {', '.join(f'{name} = ?' for name in _VALUES)}"
                    " WHERE recipe = ? AND seed = ? AND at_seconds = ? AND state != 'done'",
                    (time.time(), result["seconds"], *values, claim.recipe, claim.seed, result["at_seconds"]),
                ).rowcount
        return added

    def _settle_about(self, db: sqlite3.Connection, claim: Claim, found: dict[str, Any]) -> dict[str, Any]:
        """Keep what is true of all arrays of a recipe; refuse another network under the same name."""
        row = db.execute("SELECT about FROM recipes WHERE key = ?", (claim.recipe,)).fetchone()
        if row["about"] is None:
            db.execute(
                "UPDATE recipes SET about = ? WHERE key = ?", (json.dumps(found["about"], sort_keys=True), claim.recipe)
            )
        elif json.loads(row["about"])["network"] != found["about"]["network"]:
            return {
                "error": "the worker had other weights than those of the results in this file; let all workers load "
                "the same network (one cache of trained networks, or a file of weights), or use a new file of results",
                "traceback": "",
            }
        if "portrait" in found:
            db.execute(
                "UPDATE recipes SET portrait = ? WHERE key = ? AND portrait IS NULL",
                (json.dumps(found["portrait"], sort_keys=True), claim.recipe),
            )
        return found

    def _keep_error(self, db: sqlite3.Connection, claim: Claim, found: dict[str, Any]) -> int:
        text = found["error"] + (f"\n{found['traceback']}" if found.get("traceback") else "")
        db.executemany(
            "UPDATE points SET state = 'failed', owner = NULL, lease = NULL, error = ?, finished = ?"
            " WHERE recipe = ? AND seed = ? AND at_seconds = ? AND state != 'done'",
            [(text, time.time(), claim.recipe, claim.seed, at) for at in claim.times],
        )
        return 0

    # -- reading -------------------------------------------------------------------------------------------------

    def counts(self, sweep: str | None = None) -> dict[str, int]:
        """Points by state (``open``, ``claimed``, ``done``, ``failed``), of all sweeps or one."""
        of = "" if sweep is None else " JOIN members m USING (recipe, seed, at_seconds) WHERE m.sweep = ?"
        with named(self.path):
            rows = self.db.execute(
                f"SELECT state, count(*) FROM points{of} GROUP BY state", () if sweep is None else (sweep,)
            )
            return {row[0]: row[1] for row in rows}

    def sweeps(self) -> list[dict[str, Any]]:
        """Sweeps in this file, as `Sweep.to_dict` gives them, in the order added."""
        with named(self.path):
            return [json.loads(row[0]) for row in self.db.execute("SELECT document FROM sweeps ORDER BY added")]

    def recipes(self) -> list[dict[str, Any]]:
        """Recipes with results: names, kind, ``spec``, ``about`` and ``portrait`` (or None), in the order added."""
        with named(self.path):
            rows = self.db.execute("SELECT * FROM recipes WHERE about IS NOT NULL ORDER BY position").fetchall()
        plain = ("source", "spec", "about", "portrait")
        return [
            {k: json.loads(row[k]) if k in plain and row[k] is not None else row[k] for k in row.keys()}  # noqa: SIM118
            for row in rows
        ]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every result: names of network, recipe and device, seed, time, value, cells; in one order always."""
        with named(self.path):
            found = self.db.execute(
                "SELECT r.model, r.scheme, r.kind, r.device, p.* FROM points p JOIN recipes r ON r.key = p.recipe"
                " WHERE p.state = 'done' ORDER BY r.position, p.seed, p.at_seconds"
            ).fetchall()
        for row in found:
            yield {
                **{name: row[name] for name in ("model", "scheme", "kind", "device", "seed", "at_seconds")},
                "at": format_time(row["at_seconds"]),
                "value": row["value"],
                "cells_per_weight": row["cells"] / max(1, row["weights"]),
                **{name: row[name] for name in _VALUES[1:-1]},
                "layers": json.loads(row["layers"]),
                "attempts": row["attempts"],
                "finished": row["finished"],
                "seconds": row["seconds"],
                "recipe": row["recipe"],
            }

    def digest(self) -> str:
        """SHA-256 of all results to the last bit: two files with the same digest hold the same results."""
        found = hashlib.sha256()
        columns = ", ".join(f"p.{name}" for name in _VALUES)
        with named(self.path):
            rows = self.db.execute(
                f"SELECT p.recipe, p.seed, p.at_seconds, {columns} FROM points p WHERE p.state = 'done'"
                " ORDER BY p.recipe, p.seed, p.at_seconds"
            )
            for row in rows:
                exact = [item.hex() if isinstance(item, float) else str(item) for item in row]
                found.update("\x1f".join(exact).encode() + b"\x1e")
        return found.hexdigest()

    def comparisons(self) -> dict[tuple[str, str], Comparison]:
        """Results of each network on each device, seeds gathered to means and intervals.

        Raises
        ------
        FileError
            If there are no results yet.
        """
        values: dict[str, dict[float, list[dict[str, Any]]]] = {}
        for row in self.rows():
            values.setdefault(row["recipe"], {}).setdefault(row["at_seconds"], []).append(row)
        groups: dict[tuple[str, str], list[Evaluation]] = {}
        for recipe in self.recipes():
            if found := values.get(recipe["key"]):
                groups.setdefault((recipe["model"], recipe["device"]), []).append(_evaluation(recipe, found))
        if not groups:
            raise FileError(f"{self.path}: holds no results yet; run the sweep first")
        return {(model, device): Comparison(rows, f"{model} on {device}") for (model, device), rows in groups.items()}

    def to_dataframe(self) -> pandas.DataFrame:
        """One line per result, in the order of :meth:`rows`, without the distortion of layers."""
        import pandas

        lines = [{k: v for k, v in row.items() if k not in ("layers", "recipe")} for row in self.rows()]
        return pandas.DataFrame(lines)

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write one line per result; the ending decides: ``.csv``, ``.parquet`` (needs pyarrow), ``.json``.

        Raises
        ------
        SpecError
            If the ending is another.
        FileError
            If the file cannot be written.
        """
        target = Path(path)
        frame = self.to_dataframe()
        try:
            if target.suffix == ".csv":
                frame.to_csv(target, index=False)
            elif target.suffix == ".parquet":
                frame.to_parquet(target, index=False)
            elif target.suffix == ".json":
                frame.to_json(target, orient="records", indent=1, double_precision=15)
            else:
                raise SpecError(f"{target}: the ending must be .csv, .parquet or .json")
        except ImportError as error:
            raise FileError(f"{target}: Parquet needs pyarrow: pip install 'memristore[sweep]' ({error})") from error
        except OSError as error:
            raise FileError(f"{target}: cannot be written ({error})") from error


def _evaluation(recipe: dict[str, Any], found: dict[float, list[dict[str, Any]]]) -> Evaluation:
    """Gather the seeds of a recipe: a trial is an array."""
    about = recipe["about"]
    metric = Metric(**about["metric"])
    cells = [row["cells_per_weight"] for rows in found.values() for row in rows]

    def total(rows: Sequence[dict[str, Any]], name: str) -> int:
        return sum(int(row[name]) for row in rows)

    return Evaluation(
        scheme=recipe["scheme"],
        metric=metric,
        cells_per_weight=sum(cells) / len(cells),
        net_bits_per_cell=about["net_bits_per_cell"],
        clean=about["clean"],
        compressed=about["compressed"],
        results=tuple(
            Result(
                at_seconds=at,
                values=tuple(row["value"] for row in rows),
                higher_is_better=metric.higher_is_better,
                bits_raw_errors=total(rows, "bits_raw_errors"),
                words_corrected=total(rows, "words_corrected"),
                words_failed=total(rows, "words_failed"),
            )
            for at, rows in sorted(found.items())
        ),
        spec=about["spec"],
        seed=min(row["seed"] for rows in found.values() for row in rows),
        memristore=about["memristore"],
        isa=about["isa"],
    )
