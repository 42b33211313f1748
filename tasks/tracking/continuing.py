"""Which experiment an interrupted flow left open, and when the next flow goes on in its run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tasks.settings import Settings
from tasks.tracking import identity, state
from tasks.tracking.run import RunLog, now
from tasks.tracking.state import RunEntry, TrackingState

LEFT = ("LEFT", "KILLED")
"""States of a parent whose flow is gone: it was killed, or ended as interrupted."""


def experiment_hash(settings: Settings) -> str:
    """Hash of everything an experiment's results follow from, apart from its data."""
    return identity.settings_hash(settings.model_dump(mode="json", exclude={"tracking"}))


def data_hash(workspace: Path) -> str:
    """Hash of the prepared data; empty before there are any."""
    return str(read_manifest(workspace).get("data_hash", ""))


def read_manifest(workspace: Path) -> dict[str, Any]:
    """What ``data/prepared/manifest.json`` says; nothing where it is missing or damaged."""
    try:
        path = workspace / "data" / "prepared" / "manifest.json"
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def leave(workspace: Path, current: TrackingState) -> None:
    """Mark the parent and its open children as KILLED, and keep them for the next flow."""
    parent = current.parent
    if parent is None or parent.status == "KILLED":
        return
    for entry in current.children.values():
        if entry.status == "RUNNING":
            RunLog(workspace, entry).end("KILLED")
            entry.status = "KILLED"
    RunLog(workspace, parent).end("KILLED")
    parent.status = "KILLED"


def take_over(current: TrackingState, settings: Settings) -> bool:
    """Whether the open parent is one a flow with these settings left; marks it as left."""
    parent = current.parent
    if parent is None or not parent.by_flow or parent.settings_hash != experiment_hash(settings):
        return False
    if parent.status not in LEFT:
        parent.status = "LEFT"
    return True


def may_go_on(parent: RunEntry, settings: Settings, workspace: Path) -> bool:
    """Whether settings and data are still those of a parent that was left."""
    return (parent.settings_hash, parent.data_hash) == (
        experiment_hash(settings),
        data_hash(workspace),
    )


def go_on(workspace: Path, current: TrackingState, parent: RunEntry) -> None:
    """Open a parent again that was left, under the tags of the flow that goes on, if one does."""
    log = RunLog(workspace, parent)
    log.add("reopen")
    log.add_tags({**(current.announced or {}), "assay.resumed": str(now())})
    parent.status = "RUNNING"
    parent.by_flow = current.announced is not None
    state.save(workspace, current)
