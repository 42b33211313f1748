"""Folders in which the blocks of a page run, as a reader's own shell would run them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tasks.settings import settings_from_dict, write_params

TREES = ("flows", "tasks", "xlstm_model", "tests", "docs", "benchmarks", "fault_benchmark")
FILES = (
    *("README.md", "Makefile", "pyproject.toml", "constraints.txt", "params.yaml"),
    *("dvc.yaml", "prefect.yaml", ".dvcignore", ".gitignore"),
)
SMALL = {
    "experiment": {"name": "small", "models": ["popularity", "gru", "xlstm"]},
    "data": {"source": "synthetic", "synthetic": {"num_users": 150, "num_items": 40}},
    "train": {
        "shared": {"max_epochs": 2, "max_seq_len": 20},
        "gru": {"embedding_dim": 16},
        "xlstm": {"embedding_dim": 16},
    },
    "evaluate": {"bootstrap_samples": 100},
}
"""Settings of a ``small project``: the default experiment takes ten minutes."""
FOREIGN = ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PYTHONPATH")
GIT = ("git", "-c", "user.name=reader", "-c", "user.email=reader@localhost")


def make_workspace(kind: str, folder: Path, repository: Path) -> Path:
    """Make the folder a page asks for.

    Args:
        kind: ``folder`` (empty), ``project`` (a fresh clone) or ``small project``.
        folder: Where to put it.
        repository: The checkout.

    Raises:
        ValueError: no such kind.
    """
    folder.mkdir()
    (folder / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    if kind == "folder":
        return folder
    if kind not in ("project", "small project"):
        raise ValueError(f"workspace is {kind!r}; expected folder, project or small project.")
    for name in TREES:
        ignored = shutil.ignore_patterns("__pycache__", "*.so.tmp")
        if (repository / name).is_dir():
            shutil.copytree(repository / name, folder / name, ignore=ignored)
    for name in FILES:
        shutil.copyfile(repository / name, folder / name)
    if kind == "small project":
        write_params(settings_from_dict(SMALL), folder / "params.yaml")
    for command in (
        ["git", "init", "-q"],
        # A real .venv is a folder, which .gitignore names; here it is a link.
        ["bash", "-c", "echo /.venv >> .git/info/exclude"],
        [sys.executable, "-m", "dvc", "init", "-q", "-f"],
        [*GIT, "add", "-A"],
        [*GIT, "commit", "-q", "-m", "Start"],
    ):
        subprocess.run(command, cwd=folder, check=True, env=environment(folder))
    return folder


def environment(folder: Path) -> dict[str, str]:
    """Variables of the reader's shell: our interpreter first, nothing of this machine's state."""
    own = {key: value for key, value in os.environ.items() if key not in FOREIGN}
    if (folder / "flows").is_dir():
        # In a clone of one's own, `assay` is installed from there.
        own["PYTHONPATH"] = str(folder)
    return own | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PREFECT_HOME": str(folder.parent / "prefect"),
        "NO_COLOR": "1",
        "COLUMNS": "100",
        "OMP_NUM_THREADS": "1",
        **{f"GIT_{who}_NAME": "reader" for who in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{who}_EMAIL": "reader@localhost" for who in ("AUTHOR", "COMMITTER")},
    }


def run_shell(command: str, folder: Path, seconds: float) -> str:
    """Run lines of bash and return what they printed.

    Raises:
        AssertionError: they failed.
    """
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, f"exit code {done.returncode} of\n{command}\n{done.stdout[-6000:]}"
    return done.stdout
