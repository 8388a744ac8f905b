"""What commands print and write: tables for people, one JSON document for programs, one red line for errors."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from memristore.errors import FileError

#: Columns when standard output is not a terminal, so that tables in log files are not folded.
_WIDTH = 200


class Output:
    """Where a command's results go.

    Parameters
    ----------
    json_path : str, optional
        The ``--json`` option: a file, or ``-`` for standard output, which then carries nothing else.

    Raises
    ------
    FileError
        If the file's folder does not exist.
    """

    def __init__(self, json_path: str | None) -> None:
        self.json_path = json_path
        if json_path not in (None, "-"):
            ensure_folder(Path(str(json_path)))
        width = None if sys.stdout.isatty() or os.environ.get("COLUMNS") else _WIDTH
        self.console = Console(width=width, quiet=json_path == "-", highlight=False)

    def line(self, text: str) -> None:
        """Print a line for people."""
        self.console.print(text, markup=False, soft_wrap=True)

    def show(self, item: Any) -> None:
        """Print a table."""
        self.console.print(item)

    def document(self, schema: str, version: int, content: dict[str, Any]) -> None:
        """Write the document for programs, if it was asked for.

        Raises
        ------
        FileError
            If its file cannot be written.
        """
        if self.json_path is None:
            return
        text = json.dumps({"schema": schema, "version": version, **_plain(content)}, indent=2, allow_nan=False) + "\n"
        if self.json_path == "-":
            sys.stdout.write(text)
            return
        try:
            Path(self.json_path).write_text(text, encoding="utf-8")
        except OSError as error:
            raise FileError(f"{self.json_path}: cannot be written ({error})") from error


def _plain(content: Any) -> Any:
    """Return the same with null for numbers that JSON does not have."""
    if isinstance(content, dict):
        return {name: _plain(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def ensure_folder(path: Path) -> None:
    """Raise `FileError` unless the folder of an output file exists: better at once than after the work."""
    if not path.parent.is_dir():
        raise FileError(f"{path}: there is no folder {path.parent}; make it first")


def ensure_picture(path: Path | None) -> None:
    """Raise `FileError` unless a picture can be written there: its folder exists, its ending names a known format."""
    if path is None:
        return
    from matplotlib.backend_bases import FigureCanvasBase

    ensure_folder(path)
    known = sorted(FigureCanvasBase.get_supported_filetypes())
    if path.suffix.removeprefix(".").lower() not in known:
        raise FileError(f"{path}: a picture's name must end in one of {', '.join(f'.{ending}' for ending in known)}")


def complain(message: str) -> None:
    """Print an error as one red line on standard error."""
    console = Console(stderr=True, highlight=False)
    console.print(f"error: {' '.join(message.split())}", style="red", markup=False, soft_wrap=True)
