"""``assay data``: named sources, and what would be read from a log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from tasks.data.readers.preview import Preview


def list_sources(as_json: bool) -> None:
    """Print the named sources with sizes and licences."""
    from tasks.data import sources

    entries = sources.list_sources()
    if as_json:
        print(json.dumps(entries, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    grid = Table()
    for head in ("Name", "What it is", "Users", "Items", "Events"):
        numeric = head in ("Users", "Items", "Events")
        grid.add_column(head, justify="right" if numeric else "left", no_wrap=numeric)
    for entry in entries:
        counts = [entry["num_users"], entry["num_items"], entry["num_rows"]]
        grid.add_row(entry["name"], entry["title"], *(f"{n:,}" if n else "–" for n in counts))
    console.print(grid)
    for entry in entries:
        # Whole, so that addresses can be copied.
        console.print(f"{entry['name']}: {entry['licence']}", markup=False, soft_wrap=True)


def preview(path: Path, rows: int, as_json: bool = False) -> None:
    """Print what the reader finds in a log: format, columns, time unit, first rows."""
    from tasks.data.readers import read_interactions
    from tasks.data.readers.preview import preview as look_at

    if as_json:
        frame, report = read_interactions(path)
        facts = {"usable_rows": len(frame), **report.to_dict()}
        facts |= {"rows": frame.head(rows).to_dicts()}
        facts |= {"unusable": report.unparsed.head(rows).to_dicts()}
        print(json.dumps(facts, indent=2, ensure_ascii=False, default=str))
        return
    found = look_at(path, num_rows=rows)
    print("\n".join(_told(path, found)))
    _print_head(found.head)


def _told(path: Path, found: Preview) -> list[str]:
    """What was recognised, a line per fact; unusable rows with their reasons."""
    report = found.report
    usable = report.num_rows - len(report.unparsed)
    form = [report.format, report.separator and f"separated by {report.separator!r}"]
    form += [report.encoding and f"{report.encoding}, {'' if report.has_header else 'no '}header"]
    lines = [
        f"{path}: {usable:,} usable rows, {len(report.unparsed):,} unusable",
        f"  format: {', '.join(part for part in form if part)}",
        *(f"  {role}: column {name!r}" for role, name in report.columns.items()),
        f"  time unit: {report.time_unit}",
    ]
    if usable:
        lines.append(f"  {found.num_users:,} users, {found.num_items:,} items, {_span(found)}")
    lines += [f"  warning: {warning}" for warning in report.warnings]
    if len(report.unparsed):
        lines.append("  unusable, the first ones:")
        lines += [f"    {_reason(row)}" for row in found.unparsed.iter_rows(named=True)]
    return lines


def _span(found: Preview) -> str:
    first, last = (time.partition(".")[0] for time in (found.first_time, found.last_time))
    return f"from {first} to {last} UTC"


def _reason(row: dict[str, Any]) -> str:
    where = f"row {row['row'] + 1}" if row["line"] is None else f"line {row['line']}"
    # Quoted, so that nothing in a log can steer the terminal.
    return f"{where}: {row['reason']}: {row['text']!r}"


def _print_head(head: pl.DataFrame) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table()
    shown = head.drop("timestamp", "row", strict=False)
    for column in shown.columns:
        grid.add_column(column)
    for row in shown.iter_rows():
        # Text of the log is shown as it is, never read as markup.
        grid.add_row(*(Text(str(value)) for value in row))
    Console(highlight=False).print(grid)


def write_example(path: Path, users: int, seed: int) -> None:
    """Write a small log drawn from the synthetic generator.

    Args:
        path: CSV to write; never one that is there already.
        users: Users in the log.
        seed: Seed of the generator.

    Raises:
        SettingsError: the file exists, or its folder does not.
    """
    import tempfile

    import polars as pl

    from tasks.data.storage import write_whole
    from tasks.data.synthetic import write_synthetic
    from tasks.settings import SettingsError, SyntheticSettings

    if path.exists():
        raise SettingsError(f"{path} exists already. Choose another name, or delete it first.")
    if not path.absolute().parent.is_dir():
        raise SettingsError(
            f"{path} can't be written: its folder does not exist. Create it, or choose another."
        )
    values = SyntheticSettings(num_users=users, num_items=120, max_length=40, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        write_synthetic(Path(folder), values.model_dump())
        log = pl.read_csv(Path(folder) / "synthetic.csv")
    log.columns = ["user", "item", "time"]
    write_whole(path, log.write_csv())
    print(
        f"{path}: {len(log):,} events of {log['user'].n_unique():,} users on "
        f"{log['item'].n_unique():,} items"
    )
