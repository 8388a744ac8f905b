"""Who does what: points are claimed for a time, and free again when whoever claimed them is gone."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from memristore.sweep.schema import connect, transaction

#: How often a claim is renewed within its lease.
_RENEWALS: Final = 4


def _place() -> str:
    """Name of the machine, and of the space in which process numbers mean something (containers have their own)."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return f"{platform.node()} {space}"


def _started(process: int) -> str:
    """When a process of this machine started, so that a number used again is not taken for it; empty if unknown."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]


def new_owner() -> str:
    """Name of this runner."""
    process = os.getpid()
    return json.dumps([_place(), process, _started(process), uuid.uuid4().hex])


def _gone(owner: str) -> bool:
    """Whether a runner is known to have ended: only one of this machine can be asked."""
    place, process, started, _ = json.loads(owner)
    if place != _place():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return bool(started) and _started(process) != started


@dataclass(frozen=True)
class Claim:
    """An array to program, and the times at which this runner is to read it."""

    recipe: str
    seed: int
    times: tuple[float, ...]
    source: dict[str, Any]
    spec: dict[str, Any]
    kind: str
    portrait: bool

    def work(self, threads: int) -> dict[str, Any]:
        """What `run_array` takes."""
        return {
            "source": self.source,
            "spec": self.spec,
            "kind": self.kind,
            "seed": self.seed,
            "times": list(self.times),
            "portrait": self.portrait,
            "threads": threads,
        }


def free_lapsed(db: sqlite3.Connection, owner: str) -> None:
    """Open the points of runners that have ended or whose lease has run out. Call within a transaction."""
    now = time.time()
    for row in db.execute("SELECT owner, max(lease) AS lease FROM points WHERE state = 'claimed' GROUP BY owner"):
        if row["owner"] != owner and (row["lease"] < now or _gone(row["owner"])):
            release(db, row["owner"])


def release(db: sqlite3.Connection, owner: str, recipe: str | None = None, seed: int | None = None) -> None:
    """Open what a runner has claimed: everything, or one array."""
    only = "" if recipe is None else " AND recipe = ? AND seed = ?"
    given = (owner,) if recipe is None else (owner, recipe, seed)
    db.execute(
        f"UPDATE points SET state = 'open', owner = NULL, lease = NULL WHERE state = 'claimed' AND owner = ?{only}",
        given,
    )


def claim(db: sqlite3.Connection, owner: str, sweep: str, lease: float) -> Claim | None:
    """Claim the open points of the next array of a sweep; None if there are none."""
    with transaction(db):
        free_lapsed(db, owner)
        first = db.execute(
            "SELECT p.recipe, p.seed FROM points p JOIN members m USING (recipe, seed, at_seconds)"
            " JOIN recipes r ON r.key = p.recipe WHERE p.state = 'open' AND m.sweep = ?"
            " ORDER BY r.position, p.seed LIMIT 1",
            (sweep,),
        ).fetchone()
        if first is None:
            return None
        key, seed = first
        times = [
            row[0]
            for row in db.execute(
                "SELECT p.at_seconds FROM points p JOIN members m USING (recipe, seed, at_seconds)"
                " WHERE p.recipe = ? AND p.seed = ? AND p.state = 'open' AND m.sweep = ? ORDER BY p.at_seconds",
                (key, seed, sweep),
            )
        ]
        db.executemany(
            "UPDATE points SET state = 'claimed', owner = ?, lease = ?, attempts = attempts + 1"
            " WHERE recipe = ? AND seed = ? AND at_seconds = ?",
            [(owner, time.time() + lease, key, seed, at) for at in times],
        )
        row = db.execute("SELECT source, spec, kind, portrait FROM recipes WHERE key = ?", (key,)).fetchone()
        # One array stands for its recipe: the first seed, so that every run describes the same one.
        (least,) = db.execute("SELECT min(seed) FROM points WHERE recipe = ?", (key,)).fetchone()
    return Claim(
        recipe=key,
        seed=seed,
        times=tuple(times),
        source=json.loads(row["source"]),
        spec=json.loads(row["spec"]),
        kind=row["kind"],
        portrait=row["portrait"] is None and seed == least,
    )


class Heartbeat:
    """Renews the leases of a runner while it lives, from a thread and a connection of its own."""

    def __init__(self, path: Path, owner: str, lease: float) -> None:
        self._path, self._owner, self._lease = path, owner, lease
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="memristore-lease", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(self._lease / _RENEWALS):
            try:
                db = connect(self._path, create=False)
            except ValueError:
                continue  # the runner itself will say what is wrong with the file
            try:
                with transaction(db):
                    db.execute(
                        "UPDATE points SET lease = ? WHERE state = 'claimed' AND owner = ?",
                        (time.time() + self._lease, self._owner),
                    )
            except sqlite3.Error:
                continue
            finally:
                db.close()


def failures(db: sqlite3.Connection, sweep: str) -> Sequence[sqlite3.Row]:
    """Failed arrays of a sweep with what was said."""
    return db.execute(
        "SELECT r.model, r.scheme, r.device, p.seed, p.error FROM points p JOIN members m USING (recipe, seed,"
        " at_seconds) JOIN recipes r ON r.key = p.recipe WHERE p.state = 'failed' AND m.sweep = ?"
        " GROUP BY p.recipe, p.seed ORDER BY r.position, p.seed",
        (sweep,),
    ).fetchall()
