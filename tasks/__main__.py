"""``python -m tasks STAGE``: the command of every DVC stage. Starts no Prefect.

Runs in the workspace, the folder that holds ``params.yaml``. Exit codes: 0 done, 1 the stage
failed, 2 the data or settings can't be used, 3 the checks before training found a fault.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import quiet
from tasks.lock import refuse_if_busy, stage_lock

if TYPE_CHECKING:
    from tasks.settings import Settings

quiet.silence_telemetry()


def run_stage(stage: str, workspace: Path, *, model: str = "", seed: int = 0) -> dict[str, Any]:
    """Run one stage's core in ``workspace`` and return its small result values.

    Args:
        stage: fetch, prepare, check, train, evaluate, diagnose or report.
        workspace: Folder with ``params.yaml``; outputs go below it.
        model: Model to train; read by the stage ``train`` only.
        seed: Seed to train with; read by the stage ``train`` only.

    Raises:
        ValueError: no such stage, or the settings or data can't be used.
        WorkspaceBusyError: an experiment that did not start this one, or the same stage in another
            process, runs in the workspace.
    """
    from tasks.settings import load_settings

    refuse_if_busy(workspace)
    settings = load_settings(workspace / "params.yaml")
    what = f"{stage} {model} seed {seed}" if stage == "train" else stage
    with stage_lock(workspace, stage, what):
        return _run(stage, settings, workspace, model, seed)


def _run(stage: str, settings: Settings, workspace: Path, model: str, seed: int) -> dict[str, Any]:
    # Imported where used: a stage should not pay for the libraries of the others.
    if stage == "fetch":
        from tasks.data import fetch_stage

        return fetch_stage.run(settings, workspace)
    if stage == "prepare":
        from tasks.data import prepare_stage

        return prepare_stage.run(settings, workspace)
    if stage == "check":
        from tasks.diagnostics import check_stage

        return check_stage.run(settings, workspace)
    if stage == "train":
        from tasks.training import train_stage

        return train_stage.run(settings, workspace, model=model, seed=seed)
    if stage == "evaluate":
        from tasks.evaluation import evaluate_stage

        return evaluate_stage.run(settings, workspace)
    if stage == "diagnose":
        from tasks.diagnostics import diagnose_stage

        return diagnose_stage.run(settings, workspace, on_finding=_count_answers())
    if stage == "report":
        from tasks.report import report_stage

        return report_stage.run(settings, workspace)
    raise ValueError(f"stage is {stage!r}; expected one of {', '.join(STAGES)}.")


def _count_answers() -> Callable[[object], None]:
    """Told of each answer, says how far the diagnosis is."""
    from tasks.diagnostics.questions import QUESTIONS
    from tasks.progress import Progress

    progress, numbers = Progress("diagnose"), itertools.count(1)
    return lambda _: progress.at(next(numbers) / len(QUESTIONS))


STAGES = ("fetch", "prepare", "check", "train", "evaluate", "diagnose", "report")


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, run the stage, and turn errors into one clear message."""
    parser = argparse.ArgumentParser(prog="python -m tasks", description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--model", default="", help="model to train")
    parser.add_argument("--seed", type=int, default=0, help="seed to train with")
    parser.add_argument("--debug", action="store_true", help="show tracebacks of expected errors")
    options = parser.parse_args(arguments)
    try:
        with _ended_like_ctrl_c():
            result = run_stage(options.stage, Path.cwd(), model=options.model, seed=options.seed)
    except KeyboardInterrupt:
        print(f"{options.stage}: interrupted; run the same command to resume.", file=sys.stderr)
        return 130
    except Exception as error:
        return _report_failure(options.stage, error, options.debug)
    for name, value in result.items():
        print(f"{options.stage}: {name} = {value}")
    return 0


@contextmanager
def _ended_like_ctrl_c() -> Iterator[None]:
    """Have SIGTERM clean up and say so; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _report_failure(stage: str, error: Exception, debug: bool) -> int:
    # Errors that a script should tell apart bring their own code.
    own_code = getattr(error, "exit_code", None)
    expected = own_code is not None or isinstance(error, ValueError | OSError | ImportError)
    if debug or os.environ.get("ASSAY_DEBUG") or not expected:
        traceback.print_exception(error)
    print(f"{stage}: {error}", file=sys.stderr)
    return own_code or (2 if isinstance(error, ValueError) else 1)


if __name__ == "__main__":
    sys.exit(main())
