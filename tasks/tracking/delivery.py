"""Delivers the journals of a workspace to MLflow: in order, each record once."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from tasks.tracking import address, state
from tasks.tracking.connection import RefusedRecordError, StoreAwayError
from tasks.tracking.journal import Entry, Journal, Record
from tasks.tracking.store import MAX_METRICS, Store, discard_copy

logger = logging.getLogger("assay.tracking")

SECONDS_BETWEEN_TRIES = 60.0
TRIES = 3


@dataclass(frozen=True)
class Outcome:
    """What one delivery did."""

    delivered: int = 0
    """Records that arrived."""
    waiting: int = 0
    """Records still on disk."""
    refused: int = 0
    """Records MLflow will never accept; kept in ``.assay/spool/refused.jsonl``."""
    problem: str = ""
    """Why records wait; empty when none do."""


_stores: dict[str, Store] = {}
_away: dict[str, tuple[float, str]] = {}


def open_store(uri: str) -> Store:
    """The connection of this process to a store.

    Raises:
        StoreAwayError: it can't be reached; asked again within a minute, this is not tried anew.
    """
    until, problem = _away.get(uri, (0.0, ""))
    if time.monotonic() < until:
        raise StoreAwayError(problem)
    try:
        if uri not in _stores:
            _stores[uri] = Store(uri)
    except (StoreAwayError, RefusedRecordError) as error:
        forget_store(uri, str(error))
        raise StoreAwayError(str(error)) from error
    return _stores[uri]


def forget_store(uri: str, problem: str = "") -> None:
    """Drop a connection; with a ``problem``, don't try again for a minute."""
    _stores.pop(uri, None)
    _away.pop(uri, None)
    if problem:
        _away[uri] = (time.monotonic() + SECONDS_BETWEEN_TRIES, problem)


def deliver(workspace: Path, *, wait_seconds: float = 60.0) -> Outcome:
    """Deliver everything that waits. Never raises because MLflow is away: the records stay.

    Args:
        workspace: Folder whose spool is delivered.
        wait_seconds: How long another process that is delivering is waited for.
    """
    folder = state.spool_folder(workspace)
    if not folder.is_dir():
        return Outcome()
    uri = address.store_uri(workspace)
    try:
        with FileLock(folder / "lock", timeout=wait_seconds):
            return _deliver_all(folder, uri)
    except Timeout:
        return Outcome(waiting=count_waiting(workspace), problem="another process is delivering")
    except OSError as error:
        return Outcome(waiting=count_waiting(workspace), problem=f"can't be delivered: {error}")


def flush(workspace: Path) -> None:
    """Have the system write all journals that wait: what a stage logged outlives a power cut."""
    for journal in _journals(state.spool_folder(workspace)):
        if journal.num_waiting():
            journal.flush()


def count_waiting(workspace: Path) -> int:
    """Records on disk that MLflow does not have yet."""
    return sum(journal.num_waiting() for journal in _journals(state.spool_folder(workspace)))


def warn_if_waiting(outcome: Outcome, workspace: Path) -> None:
    """Tell the user once that records wait, why, and what happens to them."""
    if outcome.problem:
        logger.warning(
            "%s\n%d records wait in %s; the next stage that logs delivers them. "
            "Results are not affected.",
            outcome.problem,
            outcome.waiting,
            state.spool_folder(workspace),
        )


def prune(workspace: Path, keep: set[str]) -> None:
    """Delete journals that were delivered whole, apart from those named in ``keep``."""
    for journal in _journals(state.spool_folder(workspace)):
        if journal.path.name not in keep and not journal.num_waiting():
            journal.remove()


def _journals(folder: Path) -> list[Journal]:
    return [Journal(path) for path in sorted(folder.glob("[0-9]*.jsonl"))]


def _deliver_all(folder: Path, uri: str) -> Outcome:
    delivered = refused = 0
    problem = ""
    journals = [journal for journal in _journals(folder) if journal.num_waiting()]
    try:
        for journal in journals:
            journal.flush()
            for entry in _merged(journal.entries(journal.delivered())):
                if _apply(open_store(uri), entry, folder):
                    delivered += 1
                    journal.mark_delivered(entry.end)
                    # Only now: killed before, the record is delivered again and needs its copy.
                    discard_copy(entry.record)
                else:
                    refused += 1
                    journal.mark_delivered(entry.end)
    except StoreAwayError as error:
        problem = str(error)
        forget_store(uri, problem)
    except OSError as error:
        # Delivering again what was not noted as delivered changes nothing.
        problem = f"What is delivered can't be noted in {folder}: {error}"
    waiting = sum(journal.num_waiting() for journal in journals)
    return Outcome(delivered, waiting, refused, problem)


def _apply(store: Store, entry: Entry, folder: Path) -> bool:
    try:
        with store.exclusive():
            _apply_or_refuse(store, entry.record)
    except RefusedRecordError as error:
        logger.warning("MLflow refused a record, kept in %s: %s", folder / "refused.jsonl", error)
        Journal(folder / "refused.jsonl").append([{**entry.record, "reason": str(error)}])
        return False
    return True


def _apply_or_refuse(store: Store, record: Record) -> None:
    """Apply; a record that fails twice at a store that answers is at fault itself.

    Otherwise one such record would hold up all that follow, for ever. Where the store says that it
    can't write anything now, none is.
    """
    for attempt in range(TRIES):
        try:
            return store.apply(record)
        except StoreAwayError as error:
            if error.may_pass or not store.answers():
                raise
            if attempt == TRIES - 1:
                raise RefusedRecordError(str(error)) from error


def _merged(entries: Iterator[Entry]) -> Iterator[Entry]:
    """Join neighbouring metric records of one run: one transaction instead of many."""
    held: Entry | None = None
    for entry in entries:
        if held is not None and _joins(held, entry):
            points = [*held.record["points"], *entry.record["points"]]
            held = Entry({**held.record, "points": points}, entry.end)
            continue
        if held is not None:
            yield held
        held = entry
    if held is not None:
        yield held


def _joins(first: Entry, second: Entry) -> bool:
    return (
        first.record.get("op") == second.record.get("op") == "metrics"
        and first.record["key"] == second.record["key"]
        and len(first.record["points"]) < MAX_METRICS
    )
