"""Where benchmarks keep their numbers: `benchmarks/results/speed/`, read by `speed_page`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SPEED = ROOT / "benchmarks" / "results" / "speed"


def write(results: Any, path: Path | None, *, add: bool = False) -> None:
    """Write results as JSON.

    Args:
        results: Anything JSON can hold.
        path: File to write; nothing is written without one.
        add: Keep what the file holds under other keys.
    """
    if path is None:
        return
    if add and path.exists():
        results = json.loads(path.read_text()) | results
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")


def read(name: str) -> dict[str, Any]:
    """Kept results of one benchmark; empty where it was never kept."""
    path = SPEED / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}
