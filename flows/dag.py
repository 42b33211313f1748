"""The DAG as DVC reads it from ``dvc.yaml``, and which of its stages have something to do."""

from __future__ import annotations

import json
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path

TORN_SECONDS = 1.0
"""Time after which a file that is still torn is not being written."""


class DagError(ValueError):
    """DVC can't read the DAG of a workspace."""


@dataclass(frozen=True)
class Stage:
    """One stage of ``dvc.yaml``; of a matrix, one of its combinations."""

    name: str
    """As DVC calls it, for example ``train@gru-0``."""
    command: tuple[str, ...]
    """What it runs, with the interpreter of this process."""
    upstream: tuple[str, ...]
    """Stages whose outputs it reads."""
    changed: bool
    """Whether DVC would run it or fetch its outputs now; stages behind a changed one may follow."""


def read_dag(workspace: Path) -> list[Stage]:
    """Read the stages of a workspace, each after those it depends on.

    Args:
        workspace: Folder with ``dvc.yaml``, the root of a DVC repository.

    Raises:
        DagError: DVC can't read it.
    """
    import networkx

    _mend_lock(workspace)
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(workspace)) as repo:
            graph = repo.index.graph
            # Addresses are relative to where we stand, names are not.
            changed = set(repo.status())
            # Pipelines in folders below are no part of this one.
            own = [stage for stage in graph if stage.path_in_repo == "dvc.yaml" and stage.cmd]
            return [
                Stage(
                    name=stage.name,
                    command=_command(stage.cmd),
                    upstream=tuple(
                        sorted(other.name for other in graph.successors(stage) if other in own)
                    ),
                    changed=stage.addressing in changed,
                )
                for stage in reversed(list(networkx.topological_sort(graph)))
                if stage in own
            ]
    except DvcException as error:
        reason = " ".join(f"{error}: {error.__cause__ or ''}".split()).rstrip(": ")
        raise DagError(f"{workspace / 'dvc.yaml'} can't be used: {reason}.") from error


def _mend_lock(workspace: Path) -> None:
    """Remove DVC's file of locks where a killed process left it torn: DVC can't read past it."""
    path = workspace / ".dvc" / "tmp" / "rwlock"
    if _is_torn(path):
        # It may be being written just now.
        time.sleep(TORN_SECONDS)
        if _is_torn(path):
            path.unlink(missing_ok=True)


def _is_torn(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except ValueError:
        return True
    return False


def _command(text: str) -> tuple[str, ...]:
    words = shlex.split(text)
    return (sys.executable, *words[1:]) if words[0] == "python" else tuple(words)


def unchanged_stages(dag: list[Stage]) -> set[str]:
    """Stages that have nothing to do and depend on none that has.

    >>> dag = [Stage("a", (), (), False), Stage("b", (), ("a",), True),
    ...        Stage("c", (), ("b",), False), Stage("d", (), ("a",), False)]
    >>> sorted(unchanged_stages(dag))
    ['a', 'd']
    """
    unchanged: set[str] = set()
    for stage in dag:
        if not stage.changed and unchanged.issuperset(stage.upstream):
            unchanged.add(stage.name)
    return unchanged
