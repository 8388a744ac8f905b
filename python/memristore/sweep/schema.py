"""The file of results: SQLite, opened so that many processes may write and any of them may die at any moment."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from memristore.errors import FileError

#: "memr": tells our files from other SQLite files.
APPLICATION: Final = 0x6D656D72
VERSION: Final = 1
#: Seconds that a writer waits for another one.
_PATIENCE: Final = 60.0

_TABLES: Final = """
CREATE TABLE sweeps(
    key TEXT PRIMARY KEY, name TEXT NOT NULL, document TEXT NOT NULL, added REAL NOT NULL);
CREATE TABLE recipes(
    key TEXT PRIMARY KEY, position INTEGER NOT NULL, model TEXT NOT NULL, scheme TEXT NOT NULL, device TEXT NOT NULL,
    kind TEXT NOT NULL, source TEXT NOT NULL, spec TEXT NOT NULL, about TEXT, portrait TEXT);
CREATE TABLE points(
    recipe TEXT NOT NULL REFERENCES recipes(key), seed INTEGER NOT NULL, at_seconds REAL NOT NULL,
    state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'claimed', 'done', 'failed')),
    owner TEXT, lease REAL, attempts INTEGER NOT NULL DEFAULT 0, finished REAL, error TEXT,
    value REAL, cells INTEGER, weights INTEGER, bits_raw_errors INTEGER, words_corrected INTEGER, words_failed INTEGER,
    believed_seconds REAL, layers TEXT, seconds REAL,
    PRIMARY KEY (recipe, seed, at_seconds)) WITHOUT ROWID;
CREATE TABLE members(
    sweep TEXT NOT NULL REFERENCES sweeps(key), recipe TEXT NOT NULL, seed INTEGER NOT NULL, at_seconds REAL NOT NULL,
    PRIMARY KEY (sweep, recipe, seed, at_seconds)) WITHOUT ROWID;
CREATE INDEX by_state ON points(state, recipe, seed);
"""


def connect(path: Path, *, create: bool) -> sqlite3.Connection:
    """Open the file, or make it.

    Raises
    ------
    FileError
        If there is none and none is to be made, or it is damaged, foreign or of another version.
    """
    if not create and not path.is_file():
        raise FileError(f"{path}: there is no such file of results; 'memristore sweep FILE --out {path}' makes one")
    if not path.parent.is_dir():
        raise FileError(f"{path}: there is no folder {path.parent}; make it first")
    try:
        # Statements outside `transaction` commit on their own; nothing is left open by accident.
        found = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise FileError(f"{path}: cannot be opened ({error})") from error
    try:
        found.row_factory = sqlite3.Row
        found.execute("PRAGMA foreign_keys = ON")
        _settle(found, path, create)
    except sqlite3.DatabaseError as error:
        found.close()
        raise FileError(f"{path}: damaged, or not a file of results ({error})") from error
    except FileError:
        found.close()
        raise
    return found


def _settle(found: sqlite3.Connection, path: Path, create: bool) -> None:
    """Check what the file is; make the tables of a new one."""
    (tables,) = found.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not tables and create:
        found.execute("PRAGMA journal_mode = WAL")
        with transaction(found):
            # Another runner may have made them in the meantime.
            if not found.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in _TABLES.split(";\n"):
                    if statement.strip():
                        found.execute(statement)
                found.execute(f"PRAGMA application_id = {APPLICATION}")
                found.execute(f"PRAGMA user_version = {VERSION}")
    (application,) = found.execute("PRAGMA application_id").fetchone()
    (version,) = found.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION:
        raise FileError(f"{path}: not a file of results of memristore")
    if version != VERSION:
        raise FileError(f"{path}: version {version} of the file is not known; this release reads {VERSION}")
    # A commit is on the disk when it returns: a loss of power costs nothing that was reported.
    found.execute("PRAGMA synchronous = FULL")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All or nothing; readers go on, other writers wait."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@contextmanager
def named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Say which file an error of SQLite was about."""
    try:
        yield
    except sqlite3.Error as error:
        raise FileError(
            f"{os.fspath(path)}: {error}; results that were reported before are in the file if it can be read"
        ) from error
