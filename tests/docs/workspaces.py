"""Folders in which the blocks of a page run, as a reader's own shell would run them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tasks.settings import settings_from_dict, write_params

TREES = (
    *("flows", "tasks", "xlstm_model", "tests", "docs", "params", "benchmarks", "fault_benchmark"),
)
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
SERVERS = ("assay ui ", "mlflow models serve ", "prefect worker start ")
"""Commands that go on until they are ended."""
END_SERVERS = (
    "for pid in $(jobs -p | tac); do "
    "kill $pid 2> /dev/null && { timeout 20 tail --pid=$pid -f /dev/null || kill -9 $pid; }; done"
)
"""The last one first: a worker whose server is gone waits for it to come back."""
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


def run_with_servers(text: str, ports: Sequence[str], folder: Path, seconds: float) -> str:
    """Run lines of bash of which some start servers, as readers do in further terminals.

    Args:
        text: The lines; those that begin with one of `SERVERS` go on while the next ones run.
        ports: Port on which each of these answers before the next line runs; ``-``: none.
        folder: Where to run.
        seconds: Longest time for all.

    Returns:
        What the other lines printed.

    Raises:
        AssertionError: a line failed, or a server ended or did not answer.
    """
    script, waiting = [f"trap '{END_SERVERS}' EXIT"], list(ports)
    for line in text.replace("\\\n", " ").splitlines():
        command = re.sub(r"\s+#.*$", "", line)
        if not command.startswith(SERVERS):
            script.append(command)
            continue
        port = waiting.pop(0)
        answers = "sleep 10" if port == "-" else f"(: < /dev/tcp/127.0.0.1/{port}) 2> /dev/null"
        script += [
            f"{command} > server.log 2>&1 &",
            "server=$!",
            f"until {answers}; do kill -0 $server || {{ cat server.log; exit 1; }}; sleep 1; done",
            "kill -0 $server || { cat server.log; exit 1; }",
        ]
    assert not waiting, f"{waiting}: more ports than lines that start a server"
    return run_shell("\n".join(script), folder, seconds)
