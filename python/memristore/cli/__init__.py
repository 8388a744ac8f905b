"""The command line: ``memristore demo``, ``store``, ``read``, ``evaluate``, ``compare``, ``fit`` and others.

Modules that need torch or matplotlib are imported inside the commands, so that ``memristore --help`` answers at once.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from memristore.cli.output import complain
from memristore.errors import MemristoreError


class _Group(TyperGroup):
    """Turns the library's errors into one line and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except MemristoreError as error:
            complain(str(error))
            raise typer.Exit(2) from error


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Neural networks in noisy analog memory cells: store, age, read back, judge, and count every cell.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from memristore import __version__

        typer.echo(f"memristore {__version__}")
        raise typer.Exit


@app.callback()
def _start(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before the command."""


def main() -> None:
    """Entry point of the ``memristore`` command."""
    app()


# The commands register themselves with the app above.
from memristore.cli import (  # noqa: E402
    automatic,  # noqa: F401
    cells,  # noqa: F401
    compression,  # noqa: F401
    devices,  # noqa: F401
    fit,  # noqa: F401
    judge,  # noqa: F401
    limits,  # noqa: F401
    sweeps,  # noqa: F401
)
