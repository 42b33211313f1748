"""``dvc repro`` and the flow's process killed again and again: the DAG still comes to its end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML

from tests.flows.conftest import calls

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500), pytest.mark.xdist_group("prefect")]
REPRO = [sys.executable, "-m", "dvc", "repro"]
RUN = [
    *(sys.executable, "-c"),
    "from flows.start import run_experiment as r; from pathlib import Path; r(Path.cwd())",
]
OUTPUTS = ("raw.txt", "out/gru_0.txt", "out/xlstm_0.txt", "evaluation.txt")


@pytest.mark.parametrize(("command", "kills"), [(REPRO, 20), (RUN, 8)], ids=["dvc_repro", "flow"])
def test_killed_again_and_again_it_comes_to_its_end(
    command: list[str], kills: int, toy: Path, repository: Path
) -> None:
    for name in ("fetch", "train_gru", "train_xlstm", "evaluate"):
        (toy / f"{name}.py").write_text("import time; time.sleep(0.5)")
    seconds = _unbroken(command, toy, repository)
    expected = _left(toy)
    rng = random.Random(0)

    for number in range(kills):
        if number % 5 == 0:
            _forget(toy)
        _kill_after(command, toy, repository, rng.uniform(0.1, 1.0) * seconds)

    # What plain DVC says it can't read after a kill; `assay run` removes it by itself.
    if command == REPRO and (torn := toy / ".dvc" / "tmp" / "rwlock").exists():
        torn.unlink()
    done = subprocess.run(
        command, cwd=toy, env=_environment(repository), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert _left(toy) == expected
    before = len(calls(toy))
    again = subprocess.run(REPRO, cwd=toy, env=_environment(repository), check=False)
    assert again.returncode == 0
    assert len(calls(toy)) == before


def _left(toy: Path) -> dict[str, object]:
    """Outputs and lock file; its entries are in the order in which stages happened to end."""
    lock = YAML(typ="safe").load((toy / "dvc.lock").read_text())
    return {"lock": lock, **{name: (toy / name).read_bytes() for name in OUTPUTS}}


def _unbroken(command: list[str], toy: Path, repository: Path) -> float:
    started = time.monotonic()
    subprocess.run(command, cwd=toy, env=_environment(repository), check=True, capture_output=True)
    return time.monotonic() - started


def _forget(toy: Path) -> None:
    """Have everything run anew: outputs, lock file and DVC's memory of earlier runs go."""
    for name in (*OUTPUTS, "dvc.lock"):
        (toy / name).unlink(missing_ok=True)
    runs = toy / ".dvc" / "cache" / "runs"
    for path in sorted(runs.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def _kill_after(command: list[str], toy: Path, repository: Path, seconds: float) -> None:
    """Start, wait, and kill the command with all it started, as a power cut does."""
    process = subprocess.Popen(
        command,
        cwd=toy,
        env=_environment(repository),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        family = [*psutil.Process(process.pid).children(recursive=True)]
        os.kill(process.pid, signal.SIGKILL)
        for child in family:
            if child.is_running():
                child.kill()
        process.wait()
        psutil.wait_procs(family, timeout=30)


def _environment(repository: Path) -> dict[str, str]:
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": paths, "PYTHONPATH": str(repository)}
