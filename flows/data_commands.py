"""``assay data``: named sources, and what would be read from a log."""

from __future__ import annotations

import json
from pathlib import Path


def list_sources(as_json: bool) -> None:
    """Print the named sources with sizes and licences."""
    from tasks.data import sources

    entries = sources.list_sources()
    if as_json:
        print(json.dumps(entries, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    grid = Table(show_lines=True)
    for head in ("Name", "What it is", "Users", "Items", "Events"):
        numeric = head in ("Users", "Items", "Events")
        grid.add_column(head, justify="right" if numeric else "left", no_wrap=numeric)
    for entry in entries:
        counts = [entry["num_users"], entry["num_items"], entry["num_rows"]]
        shown = [f"{count:,}" if count else "–" for count in counts]
        grid.add_row(entry["name"], f"{entry['title']}\n{entry['licence']}", *shown)
    Console(highlight=False).print(grid)


def preview(path: Path, rows: int) -> None:
    """Print what the reader finds in a log: format, columns, time unit, first rows."""
    from rich.console import Console
    from rich.table import Table

    from tasks.data.readers import read_interactions

    frame, report = read_interactions(path)
    console = Console(highlight=False)
    console.print(f"{path}: {len(frame):,} usable rows", markup=False)
    for name, value in vars(report).items():
        if isinstance(value, str | int | float | bool | dict | tuple) and value not in ("", ()):
            console.print(f"  {name}: {value}", markup=False)
    unparsed = getattr(report, "unparsed", None)
    if unparsed is not None and len(unparsed):
        console.print(f"  unusable rows: {len(unparsed):,}; the first ones:")
        for row in unparsed.head(rows).iter_rows(named=True):
            console.print(f"    {row}", markup=False)
    grid = Table()
    for column in frame.columns:
        grid.add_column(column)
    for row in frame.head(rows).iter_rows():
        grid.add_row(*(str(value) for value in row))
    console.print(grid)
