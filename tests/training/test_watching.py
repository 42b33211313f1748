"""Progress lines, provenance and signals."""

from __future__ import annotations

import io
import os
import signal
import threading

import pytest
import torch

from tasks.training.interrupt import stop_on_signals
from tasks.training.observer import EpochReport, Observer
from tasks.training.progress import ProgressLines
from tasks.training.provenance import peak_gpu_memory_mb, peak_memory_mb, versions


def test_progress_lines_tell_the_numbers(train_toy):
    stream = io.StringIO()
    _, record = train_toy(observers=[ProgressLines("gru seed 0", stream)])
    lines = stream.getvalue().splitlines()
    assert len(lines) == 5
    assert all(line.startswith("gru seed 0: ") for line in lines)
    assert "at most 3 epochs" in lines[0]
    for line, row in zip(lines[1:4], record.history, strict=True):
        assert f"epoch {row['epoch']}/3: train/loss {row['train/loss']:.4f}" in line
        assert f"val/ndcg_at_10 {row['val/ndcg_at_10']:.4f}" in line
        assert line.endswith("*") is row["is_best"]
    assert f"kept epoch {record.best_epoch} of 3 (max_epochs" in lines[4]


def test_an_observer_that_overrides_nothing_is_harmless(train_toy):
    _, record = train_toy(observers=[Observer()])
    assert record.num_epochs == 3


def test_epoch_reports_are_flat_rows():
    report = EpochReport(2, 40, {"train/loss": 1.5}, is_best=True)
    assert report.as_row() == {"epoch": 2, "step": 40, "train/loss": 1.5, "is_best": True}


def test_provenance():
    assert versions()["torch"] == torch.__version__
    before = peak_memory_mb()
    held = bytearray(64 * 2**20)
    assert peak_memory_mb() >= before > 20
    assert len(held) > 0
    assert (peak_gpu_memory_mb() == 0.0) is not torch.cuda.is_initialized()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_becomes_an_answer(number):
    with stop_on_signals() as should_stop:
        assert not should_stop()
        os.kill(os.getpid(), number)
        assert should_stop()


def test_a_second_ctrl_c_interrupts():
    # A shell starts its background jobs with SIGINT ignored; a person's Ctrl-C is not.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        _assert_the_second_press_interrupts()
    finally:
        signal.signal(signal.SIGINT, before)


def _assert_the_second_press_interrupts():
    with stop_on_signals() as should_stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert should_stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_other_threads_are_left_alone():
    answers = []

    def work():
        with stop_on_signals() as should_stop:
            answers.append(should_stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert answers == [False]
