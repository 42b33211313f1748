"""Labels as they were before anything was scored, and what has been changed since."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.fault_benchmark.plan import Catalogue

FROZEN = Path("tasks") / "faults" / "frozen_labels.json"

Labels = Mapping[str, Mapping[str, Any]]


def labels_of(catalogue: Catalogue) -> dict[str, dict[str, Any]]:
    """Return what every fault is expected to look like, by id."""
    return {
        fault.id: {
            "kind": kind,
            "expected": sorted(fault.expected),
            "stages": sorted(fault.stages),
            "quiet": sorted(fault.quiet),
            "effort": fault.effort,
        }
        for kind, fault in sorted(catalogue.faults.values(), key=lambda entry: entry[1].id)
    }


def digest(labels: Labels) -> str:
    """Return a short digest of labels.

    >>> digest({}) == digest({}), digest({"a": {}}) == digest({})
    (True, False)
    """
    return hashlib.sha256(json.dumps(labels, sort_keys=True).encode()).hexdigest()[:16]


def freeze(root: Path, catalogue: Catalogue) -> str:
    """Write the labels down and return their digest."""
    labels = labels_of(catalogue)
    lines = [f" {json.dumps(id)}: {json.dumps(label)}" for id, label in labels.items()]
    (root / FROZEN).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return digest(labels)


def read_frozen(root: Path) -> dict[str, dict[str, Any]]:
    """Undo `freeze`; {} where nothing was frozen."""
    path = root / FROZEN
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def changed(catalogue: Catalogue, frozen: Labels) -> list[str]:
    """Return the ids of faults whose label is not the frozen one, new and lost ones included."""
    now = labels_of(catalogue)
    return sorted(id for id in {*now, *frozen} if now.get(id) != frozen.get(id))
