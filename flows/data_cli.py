"""The commands ``assay data ...``: what they take. `data_commands` does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

data_app = typer.Typer(no_args_is_help=True, help="Look at data sources and logs.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


@data_app.command("list")
def data_list(as_json: Json = False) -> None:
    """List the named sources with their sizes and licences."""
    from flows import data_commands

    data_commands.list_sources(as_json)


@data_app.command("preview")
def data_preview(
    path: Annotated[Path, typer.Argument(help="A log file.")],
    rows: Annotated[int, typer.Option(min=1, max=1000, help="Rows to show.")] = 5,
    as_json: Json = False,
) -> None:
    """Show what would be read from a log: format, columns, time unit, first rows."""
    from flows import data_commands

    data_commands.preview(path, rows, as_json)


@data_app.command("example")
def data_example(
    path: Annotated[Path, typer.Argument(help="CSV file to write.")],
    users: Annotated[int, typer.Option(min=10, max=100_000, help="Users in the log.")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="Seed; the same one gives the same log.")] = 0,
) -> None:
    """Write a small made-up log to try things with: columns user, item and time."""
    from flows import data_commands

    data_commands.write_example(path, users, seed)
