"""What a watcher sees of a running experiment, on a terminal and off it."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from flows.process import STOPPING
from flows.progress import TerminalHandler

LINES = (
    "prepare: 17% done, about 1:10 min left",
    "prepare: users = 150",
    "gru seed 0: 2,290 parameters, 6 steps per epoch, at most 40 epochs",
    "gru seed 0: epoch 1/40: train/loss 3.1, val/ndcg_at_10 0.1448 (2.0 s) *",
)


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)


def _tell(handler: TerminalHandler, *lines: str, level: int = logging.INFO) -> None:
    for line in lines:
        handler.handle(logging.LogRecord("stage", level, "", 0, line, None, None))


def _bars(handler: TerminalHandler) -> dict[str, dict[str, object]]:
    return {
        task.description: {"done": task.completed, "of": task.total, **task.fields}
        for task in handler.bars.tasks
    }


def test_bars_say_how_long_the_rest_takes(console: Console) -> None:
    handler = TerminalHandler(console, is_live=True)
    _tell(handler, LINES[0], LINES[3])
    assert _bars(handler) == {
        "prepare": {"done": 17, "of": 100, "unit": "%", "note": "", "left": "about 1:10 min left"},
        "gru seed 0": {
            "done": 1,
            "of": 40,
            "unit": "epoch",
            "note": "val NDCG@10 0.1448",
            "left": "at most 1:18 min left",
        },
    }


def test_bars_go_when_their_stage_is_done(console: Console) -> None:
    handler = TerminalHandler(console, is_live=True)
    _tell(handler, *LINES, "gru seed 0: kept epoch 1 of 7 (patience, 14 s)")
    assert _bars(handler) == {}
    assert "gru seed 0: kept epoch 1 of 7" in console.file.getvalue()


def test_a_stage_that_is_stopped_is_not_called_failed(console: Console) -> None:
    handler = TerminalHandler(console, is_live=False)
    failed = "Task run failed with exception: StageFailedError('gru ended with code 143.')"
    _tell(handler, failed, level=logging.WARNING)
    assert console.file.getvalue().count("trying again") == 1
    _tell(handler, STOPPING, failed, level=logging.WARNING)
    assert console.file.getvalue().count("trying again") == 1
    assert STOPPING in console.file.getvalue()


def test_off_a_terminal_there_are_no_bars_and_no_lines_per_epoch(console: Console) -> None:
    handler = TerminalHandler(console, is_live=False)
    _tell(handler, *LINES, "> python -m tasks prepare", "Stage 'prepare' is cached - skipping run")
    shown = console.file.getvalue()
    assert shown.splitlines() == [LINES[1], LINES[2]]


def test_failures_are_told_once_by_the_command_itself(console: Console) -> None:
    handler = TerminalHandler(console, is_live=False)
    _tell(handler, "Traceback (most recent call last): ...", level=logging.ERROR)
    assert console.file.getvalue() == ""
