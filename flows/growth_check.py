"""Compares the log a nightly run prepared with that of the last good night."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flows.reproduce import StageRefusedError
from tasks.data import growth
from tasks.settings import load_settings


def place_of(workspace: Path) -> Path:
    """Where the last accepted log is remembered."""
    return workspace / ".assay" / "accepted"


def check(workspace: Path, log: Callable[[str], None]) -> None:
    """Say how the prepared log changed since the last good run, and refuse it where it broke.

    Args:
        workspace: Folder of the run, with ``data/prepared``.
        log: Takes what there is to say.

    Raises:
        StageRefusedError: A limit of the settings ``retrain`` is broken and they say ``refuse``.
    """
    settings = load_settings(workspace / "params.yaml").retrain
    try:
        before = growth.recall(place_of(workspace))
    except growth.SnapshotError as error:
        _complain(
            f"what is kept of the last good log is damaged, so this one can't be compared: {error}",
            settings.on_breach,
            workspace,
            log,
        )
        return
    if before is None:
        log("No earlier log to compare with.")
        return
    found = growth.compare(before, growth.look_at(workspace / "data" / "prepared"))
    log(f"Since the last run: {found}.")
    broken = growth.breaches(found, settings.model_dump())
    if broken:
        text = "the log is not that of last time, grown: " + "; ".join(broken)
        _complain(text, settings.on_breach, workspace, log)


def _complain(text: str, on_breach: str, workspace: Path, log: Callable[[str], None]) -> None:
    """Warn or refuse, as the settings say."""
    if on_breach == "warn":
        log(f"Warning: {text}")
        return
    raise StageRefusedError(
        f"prepare: {text} Nothing was trained and the champion stays. Correct the log, raise the "
        f"limit, or accept the log as it is: remove {place_of(workspace)}."
    )


def accept(workspace: Path) -> None:
    """Remember the log of a run that ended well."""
    growth.remember(workspace / "data" / "prepared", place_of(workspace))
