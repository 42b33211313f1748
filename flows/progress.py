"""Shows a running experiment in the terminal: a bar per training, a line per stage.

Prefect's own console lines are replaced; its logs still reach the Prefect UI in full.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from flows.process import STOPPING
from tasks.progress import spell_seconds

EPOCH = re.compile(r"^(\S+) seed (\d+): epoch (\d+)/(\d+): (.*)$")
KEPT = re.compile(r"^(\S+) seed (\d+): kept epoch (.*)$")
SHARE = re.compile(r"^(\S+): (\d+)% done, about (.*) left$")
SUMMARY = re.compile(r"^(prepare|check|evaluate|diagnose|report): \S+ = ")
RETRY = re.compile(r"^Task run failed with exception: \w+\([\"'](.*?)[.:\\\"']")
ENDED = re.compile(r"^(Finished in state|Beginning flow run)")
NOISE = re.compile(
    r"^(> |$|Updating lock file|Generating lock file|Use `dvc push`|To (track|enable)|\s+(git|dvc) "
    r"|Running stage|Stage '.*' (didn't change|is cached)|Finished in state"
    r"|Created (task|flow) run|train: |WARNING: stage: .* is frozen"
    r"|\S+: (folder|file|licence|sha256|size|source|report) = )"
)
"""Lines that tell a watcher nothing."""
EMPTY = {"note": "", "left": ""}


class TerminalHandler(logging.Handler):
    """Turns the log lines of the stages into bars and a few lines of text.

    Args:
        console: Where to print.
        is_live: Draw bars; otherwise only stages' first and last words are printed.
    """

    def __init__(self, console: Console, is_live: bool) -> None:
        super().__init__(logging.INFO)
        self._console = console
        self._is_live = is_live
        self._is_stopping = False
        self._tasks: dict[str, TaskID] = {}
        self.bars = Progress(
            TextColumn("{task.description:<22}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[unit]} {task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[note]}"),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=not is_live,
        )

    def emit(self, record: logging.LogRecord) -> None:
        """Show one line of a stage."""
        message = record.getMessage()
        if record.levelno >= logging.ERROR or ENDED.match(message):
            return  # The command itself prints what failed, once, at the end.
        if found := RETRY.match(message):
            if self._is_stopping:
                return  # What is ended on purpose is not tried again.
            self._print(f"a stage failed: {found.group(1)}; trying again", "yellow")
        elif record.levelno >= logging.WARNING:
            self._is_stopping = self._is_stopping or message == STOPPING
            self._print(message, "yellow")
        elif found := EPOCH.match(message):
            self._update(*found.groups())
        elif found := KEPT.match(message):
            self._finish(*found.groups())
        elif found := SHARE.match(message):
            self._advance(*found.groups())
        elif not NOISE.match(message):
            if found := SUMMARY.match(message):
                self._remove(found.group(1))
            self._print(message, "dim")

    def _print(self, text: str, style: str) -> None:
        self._console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    def _update(self, model: str, seed: str, epoch: str, total: str, rest: str) -> None:
        if not self._is_live:
            return
        key = f"{model} seed {seed}"
        if key not in self._tasks:
            self._tasks[key] = self.bars.add_task(key, total=int(total), **EMPTY, unit="epoch")
        metric = re.search(r"val/ndcg_at_10 [\d.]+", rest)
        note = metric.group().replace("val/ndcg_at_10", "val NDCG@10") if metric else ""
        seconds = re.search(r"\(([\d.]+) s\)", rest)
        # Training may stop before the last epoch, hence `at most`.
        rest_seconds = float(seconds.group(1)) * (int(total) - int(epoch)) if seconds else 0.0
        left = f"at most {spell_seconds(rest_seconds)} left" if seconds else ""
        self.bars.update(self._tasks[key], completed=int(epoch), note=note, left=left)

    def _advance(self, stage: str, percent: str, left: str) -> None:
        if not self._is_live:
            return
        if stage not in self._tasks:
            self._tasks[stage] = self.bars.add_task(stage, total=100, **EMPTY, unit="%")
        self.bars.update(self._tasks[stage], completed=int(percent), left=f"about {left} left")

    def _finish(self, model: str, seed: str, rest: str) -> None:
        key = f"{model} seed {seed}"
        self._remove(key)
        self._print(f"{key}: kept epoch {rest}", "")

    def _remove(self, key: str) -> None:
        if key in self._tasks:
            self.bars.remove_task(self._tasks.pop(key))


@contextmanager
def shown_in_terminal(quiet: bool) -> Iterator[None]:
    """Show the stages of flows that run inside this context.

    Args:
        quiet: Show problems only (for ``--json``); they go to standard error.
    """
    # Prefect reads its settings when it is imported, so that has to wait for them.
    from prefect.logging.configuration import setup_logging

    console = Console(stderr=quiet, highlight=False)
    handler = TerminalHandler(console, is_live=not quiet and sys.stdout.isatty())
    if quiet:
        handler.setLevel(logging.WARNING)
    # Prefect may set its handlers up several times; this reaches its console handler each time.
    os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"
    setup_logging()
    runs = [logging.getLogger(f"prefect.{name}") for name in ("flow_runs", "task_runs")]
    for logger in runs:
        logger.addHandler(handler)
    try:
        with handler.bars:
            yield
    finally:
        for logger in runs:
            logger.removeHandler(handler)
