"""A process that only takes steps writes its states into memory it has, not into fresh pages."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from xlstm_model.native import library

STEPS = 40
PAGES_OF_A_STEP = 2 * 2**20 // 4096
"""What the new states of the stack below take."""
PROGRAM = f"""
import resource
import torch
from xlstm_model import XLSTMStack

torch.set_num_threads(1)
stack = XLSTMStack(128, "mm", num_heads=2)
x, state = torch.randn(8, 128), None
with torch.no_grad():
    state = stack.initial_state(8)
    for _ in range(20):
        _, state = stack.step(x, state)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range({STEPS}):
        _, state = stack.step(x, state)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / {STEPS})
"""


def _faults_per_step(**environment):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=kept | environment,
        check=True,
        stdout=subprocess.PIPE,
    )
    return float(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="how glibc keeps memory")
@pytest.mark.skipif(library.load_library() is None, reason="the compiled kernels are not built")
def test_steps_reuse_memory():
    assert _faults_per_step() < PAGES_OF_A_STEP / 8
    # What the environment sets stays: with these glibc gives every block back at once.
    wasteful = {"MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_MMAP_THRESHOLD_": "131072"}
    assert _faults_per_step(**wasteful) > PAGES_OF_A_STEP / 2
