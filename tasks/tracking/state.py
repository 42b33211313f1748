"""Which MLflow runs belong to the experiment in progress: ``.assay/mlflow.json`` of a workspace."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from filelock import FileLock

LOCK_SECONDS = 60.0
STATE_FILE = "mlflow.json"
STATE_COPY = "mlflow.copy.json"
DONE = ("FINISHED", "LINKED")
"""A run of this experiment that ended well, and one that stands for a training of earlier."""


@dataclass
class RunEntry:
    """A run we log to. Its key is ours; MLflow's own id is looked up by it when delivering."""

    key: str
    """Unique name of the run, kept as its tag ``assay.key``."""
    journal: str
    """File name of its journal in the spool."""
    settings_hash: str = ""
    """Hash of the parameters, so that a run is continued only with the same ones."""
    data_hash: str = ""
    """For a parent: hash of the data it is about."""
    status: str = "RUNNING"
    """RUNNING, FINISHED, FAILED, KILLED or LINKED; a run that is not `DONE` may be continued.

    A parent is LEFT while it is open to the next flow.
    """
    by_flow: bool = False
    """For a parent: whether a flow began it and alone decides when the next one begins."""


@dataclass
class TrackingState:
    """The open parent run and its children; changed only inside `edit`."""

    parent: RunEntry | None = None
    announced: dict[str, str] | None = None
    """Tags of the next parent, which a flow announced; None where no flow did."""
    children: dict[str, RunEntry] = field(default_factory=dict)
    """By ``<model>/seed_<seed>``."""
    evaluated: bool = False
    """Whether the open parent has the test metrics of all models."""
    next_journal: int = 1

    def new_run(self, settings_hash: str = "") -> RunEntry:
        """Reserve a key and a journal; journals are numbered so that they deliver in order."""
        key = uuid.uuid4().hex
        journal = f"{self.next_journal:08d}-{key}.jsonl"
        self.next_journal += 1
        return RunEntry(key=key, journal=journal, settings_hash=settings_hash)


def child_name(model: str, seed: int) -> str:
    """Name of a child in the state.

    >>> child_name("xlstm", 0)
    'xlstm/seed_0'
    """
    return f"{model}/seed_{seed}"


def local_folder(workspace: Path) -> Path:
    """The workspace's folder of local state, ignored by git and DVC."""
    return workspace / ".assay"


def spool_folder(workspace: Path) -> Path:
    """Where journals wait."""
    return local_folder(workspace) / "spool"


def read(workspace: Path) -> TrackingState:
    """Read the state or, where it is damaged, its copy; without both it is a fresh one."""
    for name in (STATE_FILE, STATE_COPY):
        try:
            raw = json.loads((local_folder(workspace) / name).read_text())
            return TrackingState(
                parent=RunEntry(**raw["parent"]) if raw["parent"] else None,
                announced=raw["announced"],
                children={name: RunEntry(**entry) for name, entry in raw["children"].items()},
                evaluated=bool(raw["evaluated"]),
                next_journal=max(int(raw["next_journal"]), _next_free_number(workspace)),
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return TrackingState(next_journal=_next_free_number(workspace))


@contextmanager
def edit(workspace: Path) -> Iterator[TrackingState]:
    """Change the state, one process at a time; written atomically on a clean exit."""
    folder = local_folder(workspace)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "mlflow.json.lock", timeout=LOCK_SECONDS):
        state = read(workspace)
        yield state
        save(workspace, state)


def save(workspace: Path, state: TrackingState) -> None:
    """Write a state that is being edited, for what must not be forgotten if killed right after."""
    for name in (STATE_FILE, STATE_COPY):
        _write(local_folder(workspace) / name, json.dumps(asdict(state), indent=1))


def _write(path: Path, text: str) -> None:
    """Replace a file in one step, flushed to the disk."""
    partial = path.with_name(f"{path.name}.tmp")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _next_free_number(workspace: Path) -> int:
    names = [path.name[:8] for path in spool_folder(workspace).glob("*.jsonl")]
    return 1 + max((int(name) for name in names if name.isdigit()), default=0)
