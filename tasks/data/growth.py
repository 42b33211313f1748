"""Whether prepared data is the log of last time, grown: what came, what went, what shifted.

A log that is appended to keeps its columns, its events, its items and their ids, and the popularity
of items changes slowly. What breaks that, an export cut short, another id scheme, another time
unit, shows here before anything is trained on it.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tasks.data.integrity import sha256_of
from tasks.data.prepared import PreparedData
from tasks.data.storage import replaced_folder

SNAPSHOT_FILES = ("manifest.json", "items.csv")
COUNTS_FILE = "item_counts.npy"
CHECKSUMS_FILE = "sha256.json"


class SnapshotError(ValueError):
    """What was kept of the last log is damaged."""


@dataclass(frozen=True)
class Snapshot:
    """What is remembered of prepared data.

    Attributes:
        events: training events.
        users: users.
        last_time: time of the newest training event, microseconds; None where none is known.
        counts: training events by raw item id.
        schema: column of the log by role, and its time unit.
    """

    events: int
    users: int
    last_time: int | None
    counts: Mapping[str, int]
    schema: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Growth:
    """Prepared data against that of last time; shares are of what there was.

    Attributes:
        new_events: training events more than last time; negative where there are fewer.
        new_users: users more than last time.
        new_items: items not known before.
        vanished_items: share of the known items that are gone.
        vanished_events: share of the events that are gone, 0 where the log grew.
        new_items_share: share of today's vocabulary that is new.
        shift: total variation distance between the popularity of common items then and now.
        went_back: whether the newest event is older than it was.
        schema_changes: what is read from another column, or in another time unit, in words.
    """

    new_events: int
    new_users: int
    new_items: int
    vanished_items: float
    vanished_events: float
    new_items_share: float
    shift: float
    went_back: bool
    schema_changes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return (
            f"{self.new_events:+,} events, {self.new_users:+,} users, {self.new_items:,} new items "
            f"({self.new_items_share:.1%} of all), {self.vanished_items:.1%} of the known items "
            f"gone, popularity shifted by {self.shift:.3f}"
        )


def remember(prepared: Path, place: Path) -> None:
    """Keep what the next comparison needs, replacing what was kept in one move.

    Args:
        prepared: folder of prepared data.
        place: where to keep it.
    """
    counts = PreparedData.load(prepared).item_counts
    with replaced_folder(place) as folder:
        for name in SNAPSHOT_FILES:
            (folder / name).write_bytes((prepared / name).read_bytes())
        np.save(folder / COUNTS_FILE, counts)
        sums = {name: sha256_of(folder / name) for name in (*SNAPSHOT_FILES, COUNTS_FILE)}
        (folder / CHECKSUMS_FILE).write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")


def recall(place: Path) -> Snapshot | None:
    """What was kept last time; None where nothing was.

    Raises:
        SnapshotError: it was changed since, or can't be read: a check that is left out for that
            would let any log pass.
    """
    if not place.exists():
        return None
    try:
        sums = json.loads((place / CHECKSUMS_FILE).read_text(encoding="utf-8"))
        for name in (*SNAPSHOT_FILES, COUNTS_FILE):
            if sha256_of(place / name) != sums[name]:
                raise SnapshotError(f"{place / name} was changed or damaged (its SHA-256).")
        return _snapshot(place, np.load(place / COUNTS_FILE, allow_pickle=False))
    except SnapshotError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SnapshotError(f"{place} can't be read ({type(error).__name__}: {error}).") from error


def look_at(prepared: Path) -> Snapshot:
    """The same of prepared data as it is now."""
    return _snapshot(prepared, PreparedData.load(prepared).item_counts)


def _snapshot(folder: Path, counts: np.ndarray) -> Snapshot:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    with (folder / "items.csv").open(encoding="utf-8", newline="") as file:
        names = {row["raw_id"]: int(counts[int(row["item_id"])]) for row in csv.DictReader(file)}
    read = manifest["source"].get("read", {})
    schema = dict(read.get("columns", {}))
    return Snapshot(
        events=int(manifest["counts"]["train_events"]),
        users=int(manifest["counts"]["users"]),
        last_time=manifest["statistics"].get("last_training_time"),
        counts=names,
        schema=schema | {"time unit": read["time_unit"]} if schema else {},
    )


def compare(before: Snapshot, now: Snapshot) -> Growth:
    """Return how a log changed.

    >>> before = Snapshot(10, 2, 5, {"a": 6, "b": 4})
    >>> now = Snapshot(12, 3, 7, {"a": 6, "b": 4, "c": 2})
    >>> growth = compare(before, now)
    >>> growth.new_events, growth.new_items, growth.shift, growth.went_back
    (2, 1, 0.0, False)
    """
    common = before.counts.keys() & now.counts.keys()
    new = len(now.counts) - len(common)
    then = np.array([before.counts[item] for item in sorted(common)], dtype=float)
    today = np.array([now.counts[item] for item in sorted(common)], dtype=float)
    times = (before.last_time, now.last_time)
    return Growth(
        new_events=now.events - before.events,
        new_users=now.users - before.users,
        new_items=new,
        vanished_items=1 - len(common) / max(1, len(before.counts)),
        vanished_events=max(0.0, 1 - now.events / max(1, before.events)),
        new_items_share=new / max(1, len(now.counts)),
        shift=_total_variation(then, today),
        went_back=None not in times and times[1] < times[0],
        schema_changes=_schema_changes(before.schema, now.schema),
    )


def _schema_changes(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """What differs between two schemas; nothing where one of them is not known.

    >>> _schema_changes({"timestamp": "ts", "time unit": "s"}, {"timestamp": "ts"})
    ("time unit was 's' and is absent",)
    """
    if not before or not now:
        return ()
    found = []
    for role in sorted({*before, *now}):
        then, today = (
            repr(schema[role]) if role in schema else "absent" for schema in (before, now)
        )
        if then != today:
            found.append(f"{role} was {then} and is {today}")
    return tuple(found)


def _total_variation(then: np.ndarray, today: np.ndarray) -> float:
    """Half the summed difference of two distributions, 0 to 1; 1 where either is empty."""
    if not then.sum() or not today.sum():
        return 1.0
    return float(np.abs(then / then.sum() - today / today.sum()).sum() / 2)


def breaches(growth: Growth, limits: Mapping[str, float]) -> list[str]:
    """Say which limits are broken, and what to look at.

    Args:
        growth: How the log changed.
        limits: ``max_vanished_items``, ``max_vanished_events``, ``max_new_items``, ``max_shift``.
    """
    checked = (
        (
            "max_vanished_events",
            growth.vanished_events,
            "of the events are gone",
            "was the export cut short?",
        ),
        (
            "max_vanished_items",
            growth.vanished_items,
            "of the known items are gone",
            "was the export cut short, or did the ids change?",
        ),
        (
            "max_new_items",
            growth.new_items_share,
            "of the vocabulary is new",
            "did the ids change?",
        ),
        (
            "max_shift",
            growth.shift,
            "is how far the popularity of items shifted",
            "is it the same log?",
        ),
    )
    found = [
        f"{value:.1%} {what}, above retrain.{name} ({limits[name]:g}): {question}"
        for name, value, what, question in checked
        if value > limits[name]
    ]
    if growth.schema_changes:
        changes = ", ".join(growth.schema_changes)
        found.append(f"its columns changed ({changes}): is it the same export?")
    if growth.went_back:
        found.append("the newest event is older than last time: is it an old export?")
    return found
