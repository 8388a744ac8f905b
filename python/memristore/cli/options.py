"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write a JSON document; - for standard output, then nothing else."),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Names the array: same seed, same cells, same noise.")]
Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Folder with the task's data (the idx files, for mnist)."),
]
Stored = Annotated[Path, typer.Argument(metavar="FILE", help="A stored network, as 'memristore store' writes it.")]
