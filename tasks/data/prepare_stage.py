"""Stage ``prepare``: turn the raw log into ``data/prepared``; stop on a leak."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from tasks.data.build import build_prepared
from tasks.data.coded import encode_log
from tasks.data.pieces import kind_of_pieces
from tasks.data.raw_log import find_raw_log, read_record
from tasks.data.readers import read_interactions
from tasks.data.recipe import Recipe, Scope
from tasks.data.schema import QUARANTINE, check_quarantine_share, split_valid
from tasks.data.splits import EPOCH
from tasks.data.streamed import StreamedLog, read_streamed
from tasks.progress import Progress

if TYPE_CHECKING:
    from tasks.settings import DataSettings, Settings

SHARES = {"checked": 0.28, "sequences": 0.61}
"""Share of the time at which each part is done, measured on 1.7 million events."""
REPORTED_COUNTS = ("users", "items", "train_events", "val_examples", "test_examples")


def run(settings: Settings, workspace: Path) -> dict:
    """Read ``data/raw`` and write ``data/prepared`` in one step.

    Args:
        settings: The run's settings; only ``settings.data`` is read.
        workspace: Folder the run lives in.

    Returns:
        Counts, number of quarantined rows and of warnings, and the hash of the prepared data.

    Raises:
        DataError: The raw log is missing or can't be read.
        QuarantineError: More rows are unusable than ``data.max_quarantine_share`` allows; the
            rows are listed in ``.assay/quarantine.csv``.
        EmptyCorpusError, SplitError: The log can't be prepared as asked.
        LeakageError: An exact leakage check failed.
    """
    data, raw = settings.data, workspace / "data" / "raw"
    record, progress = read_record(raw), Progress("prepare")
    location, reading = find_raw_log(raw, choose_reading(data))
    with read_log(location, reading, workspace / ".assay" / "streamed") as log:
        progress.at(SHARES["checked"])
        share = data.max_quarantine_share
        _stop_on_too_many(log.quarantine, log.report.num_rows, share, workspace)
        known = ("source", "title", "licence", "file", "sha256")
        manifest = build_prepared(
            workspace / "data" / "prepared",
            log.coded,
            choose_recipe(data),
            quarantine=log.quarantine,
            source={**{name: record.get(name, "") for name in known}, "read": log.report.to_dict()},
            on_sequences=lambda: progress.at(SHARES["sequences"]),
        )
    return {
        **{name: manifest["counts"][name] for name in REPORTED_COUNTS},
        "quarantined": sum(manifest["quarantine_reasons"].values()),
        "warnings": len(manifest["warnings"]),
        "data_hash": manifest["data_hash"],
    }


@contextmanager
def read_log(
    location: Path | str, reading: Mapping[str, str], folder: Path
) -> Iterator[StreamedLog]:
    """Read a log: at once, or piece by piece where it is large and can be cut.

    Args:
        location: The log, as `find_raw_log` returns it.
        reading: Arguments of `read_interactions`.
        folder: Where the pieces lie meanwhile; it is removed.
    """
    kind = kind_of_pieces(location)
    if kind is not None:
        with read_streamed(Path(location), kind, reading, folder) as log:
            yield log
        return
    frame, report = read_interactions(location, **reading)
    frame, unusable = split_valid(frame)
    coded = encode_log(frame)
    del frame
    quarantine = pl.concat([report.unparsed.select(*QUARANTINE), unusable]).sort("row")
    yield StreamedLog(coded, report, quarantine)


def choose_recipe(data: DataSettings) -> Recipe:
    """Turn the settings into a recipe; ``auto`` becomes what the split calls for.

    Leave-one-out filters and numbers items over the whole log, as the literature does; a temporal
    split does both over its training period, so that nothing is learnt from later events.
    """
    usual: Scope = "full" if data.split == "leave_one_out" else "train"
    by_time = data.boundaries == "time"
    return Recipe(
        rating_threshold=data.rating_threshold,
        duplicates=data.duplicates,
        repeats=data.repeats,
        min_user_events=data.min_user_events,
        min_item_events=data.min_item_events,
        split=data.split,
        corpus=usual if data.corpus == "auto" else data.corpus,
        vocabulary=usual if data.vocabulary == "auto" else data.vocabulary,
        boundaries=data.boundaries,
        quantiles=(data.val_quantile, data.test_quantile),
        starts=(_parse_time(data.val_start), _parse_time(data.test_start)) if by_time else (0, 0),
        temporal_target=data.temporal_target,
        cold_targets=data.cold_targets,
        cold_users=data.cold_users,
    )


def choose_reading(data: DataSettings) -> dict[str, str]:
    """Return the arguments of ``read_interactions`` for a user's own file."""
    return {
        "format": data.format,
        "user_column": data.user_column,
        "item_column": data.item_column,
        "time_column": data.time_column,
        "rating_column": data.rating_column,
        "time_unit": data.time_unit,
    }


def _parse_time(text: str) -> int:
    """Return an ISO 8601 time, UTC where it names no zone, as microseconds since the epoch.

    >>> _parse_time("1970-01-02")
    86400000000
    """
    time = datetime.fromisoformat(text)
    elapsed = (time if time.tzinfo else time.replace(tzinfo=UTC)) - EPOCH
    return (elapsed.days * 86_400 + elapsed.seconds) * 1_000_000 + elapsed.microseconds


def _stop_on_too_many(
    quarantine: pl.DataFrame, num_rows: int, max_share: float, workspace: Path
) -> None:
    """Fail above the allowed share, leaving the unusable rows where they can be looked at."""
    listing = workspace / ".assay" / "quarantine.csv"
    try:
        check_quarantine_share(quarantine, num_rows, max_share, ".assay/quarantine.csv")
    except ValueError:
        listing.parent.mkdir(exist_ok=True)
        quarantine.write_csv(listing)
        raise
    listing.unlink(missing_ok=True)
