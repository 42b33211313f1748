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


def preview(path: Path, rows: int, as_json: bool = False) -> None:
    """Print what the reader finds in a log: format, columns, time unit, first rows."""
    from tasks.data.readers import read_interactions

    frame, report = read_interactions(path)
    if as_json:
        facts = {"usable_rows": len(frame), **report.to_dict()}
        facts |= {"rows": frame.head(rows).to_dicts()}
        facts |= {"unusable": report.unparsed.head(rows).to_dicts()}
        print(json.dumps(facts, indent=2, ensure_ascii=False, default=str))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)

    def tell(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    tell(f"{path}: {len(frame):,} usable rows")
    for name, value in vars(report).items():
        if isinstance(value, str | int | float | bool | dict | tuple) and value not in ("", ()):
            tell(f"  {name}: {value}")
    if len(report.unparsed):
        tell(f"  unusable rows: {len(report.unparsed):,}; the first ones:")
        for row in report.unparsed.head(rows).iter_rows(named=True):
            tell(f"    {row}")
    grid = Table()
    for column in frame.columns:
        grid.add_column(column)
    for row in frame.head(rows).iter_rows():
        # Text of the log is shown as it is, never read as markup.
        grid.add_row(*(Text(str(value)) for value in row))
    console.print(grid)


def write_example(path: Path, users: int, seed: int) -> None:
    """Write a small log drawn from the synthetic generator.

    Args:
        path: CSV to write; never one that is there already.
        users: Users in the log.
        seed: Seed of the generator.

    Raises:
        SettingsError: the file exists.
    """
    import tempfile

    import polars as pl

    from tasks.data.synthetic import write_synthetic
    from tasks.settings import SettingsError, SyntheticSettings

    if path.exists():
        raise SettingsError(f"{path} exists already. Choose another name, or delete it first.")
    values = SyntheticSettings(num_users=users, num_items=120, max_length=40, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        write_synthetic(Path(folder), values.model_dump())
        log = pl.read_csv(Path(folder) / "synthetic.csv")
    log.columns = ["user", "item", "time"]
    log.write_csv(path)
    print(
        f"{path}: {len(log):,} events of {log['user'].n_unique():,} users on "
        f"{log['item'].n_unique():,} items"
    )
