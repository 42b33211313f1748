"""Several processes are compared with one as a user starts them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.mark.long
def test_two_processes_on_the_cpu_agree_with_one(tmp_path: Path, repository: Path) -> None:
    out = tmp_path / "found.json"
    command = [sys.executable, *TWO, "-m", "benchmarks.distributed", "--cpu", "--steps", "10"]
    subprocess.run([*command, "--json", str(out)], cwd=repository, check=True, timeout=240)

    found = json.loads(out.read_text())
    apart = found["one_against_all"]
    assert (found["processes"], found["backend"]) == (2, "gloo")
    assert apart["last_loss"] < apart["first_loss"]
    assert apart["largest_relative_loss_difference"] < 1e-5
    assert apart["weights_apart_over_weights_moved"] < 1e-2


def test_one_process_alone_is_told_how_to_start(repository: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.distributed", "--cpu"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "torchrun --standalone --nproc-per-node 2" in done.stderr
