"""One stage of ``dvc.yaml``, run in a process of its own through DVC or directly."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from flows.cached import damaged_objects
from flows.dag import Stage
from flows.process import Commands, Completed
from tasks.redaction import hide_secrets

Outcome = Literal["ran", "unchanged", "from cache"]
BUSY_TRIES = 60
BUSY_SECONDS = 1.0
SHOWN_LINES = 15
CHATTER = (
    "To track the changes",
    "git add",
    "To enable auto staging",
    "dvc config",
    "Use `dvc push`",
)
"""What DVC says after every stage and nobody needs to read in a log."""

ANNOUNCED = ("Running stage", "> ")
"""What DVC says before a stage."""

FAILED = re.compile(r"^ERROR: failed to reproduce .* failed to run: .* exited with -?\d+$")
"""What DVC says of a stage that has already said itself why it failed."""

OWNER_GONE = re.compile(r"^WARNING: Process .* in RWLock-file .* had been killed")
"""What DVC says where a run goes on that was ended: all is well."""


class StageFailedError(RuntimeError):
    """A stage ended without success; another try may help.

    Attributes:
        exit_code: What the command that ran the stage ends with.
    """

    exit_code = 1


class StageRefusedError(StageFailedError):
    """A stage says that its data or settings can't be used; another try can't help."""

    exit_code = 2


class FaultStopsRunError(StageRefusedError):
    """The checks before training found a fault, so nothing was trained."""

    exit_code = 3


@dataclass(frozen=True)
class StageResult:
    """What running a stage did."""

    name: str
    outcome: Outcome
    seconds: float


@dataclass(frozen=True)
class ExperimentResult:
    """What an experiment did."""

    workspace: str
    """Folder with settings and results."""
    outcomes: dict[str, str] = field(default_factory=dict)
    """Stage -> ran, unchanged or from cache."""
    seconds: float = 0.0
    """Wall time of the flow."""


def run_stage(
    stage: Stage,
    workspace: Path,
    commands: Commands,
    *,
    use_dvc: bool,
    timeout_seconds: float,
    log: Callable[[str], None],
    environment: Mapping[str, str],
) -> StageResult:
    """Run one stage to its end.

    Args:
        stage: The stage; stages it depends on are up to date.
        workspace: Folder of the experiment.
        commands: What runs it, and can end it.
        use_dvc: Through ``dvc repro --single-item``, or its command directly.
        timeout_seconds: After this the stage is ended.
        log: Called with every line of output.
        environment: Variables the stage gets besides ours.

    Raises:
        StageRefusedError: its data or settings can't be used.
        StageFailedError: it failed, or took too long.
    """
    command = list(stage.command)
    if use_dvc:
        command = [sys.executable, "-m", "dvc", "repro", "--single-item", stage.name]

    def run(command: list[str]) -> Completed:
        return commands.run(
            command,
            workspace,
            on_line=lambda line: is_worth_logging(line) and log(hide_secrets(line)),
            timeout_seconds=timeout_seconds,
            environment=environment,
        )

    done = _run_when_free(run, command, use_dvc)
    if done.code == 0 and _outcome(done.lines, use_dvc) == "from cache":
        damaged = damaged_objects(workspace, stage.name)
        if damaged:
            log(
                f"{stage.name}: {len(damaged)} of its files in DVC's cache are damaged, the first "
                f"is {damaged[0]}; the stage runs again to replace them."
            )
            for path in damaged:
                path.unlink(missing_ok=True)
            done = _run_when_free(run, [*command, "--force"], use_dvc)
    if done.code:
        raise _failure(stage, done, timeout_seconds)
    return StageResult(stage.name, _outcome(done.lines, use_dvc), done.seconds)


def _run_when_free(
    run: Callable[[list[str]], Completed], command: list[str], use_dvc: bool
) -> Completed:
    """Run a command, again and again while DVC says that another one holds its locks."""
    for attempt in range(BUSY_TRIES):
        done = run(command)
        if done.code == 0 or not (use_dvc and _is_dvc_busy(done.lines)):
            break
        if attempt + 1 < BUSY_TRIES:
            # Stages side by side take turns in writing `dvc.lock`.
            time.sleep(BUSY_SECONDS)
    return done


def is_worth_logging(line: str) -> bool:
    """Whether a line of output says anything.

    >>> is_worth_logging("    git add dvc.lock"), is_worth_logging("epoch 3")
    (False, True)
    >>> is_worth_logging("ERROR: failed to reproduce 'a': failed to run: x, exited with 2")
    False
    >>> is_worth_logging("WARNING: Process 'x' with (Pid 7), in RWLock-file 'y' had been killed.")
    False
    """
    text = line.strip()
    said = text.startswith(CHATTER) or FAILED.match(text) or OWNER_GONE.match(text)
    return bool(text) and not said


def _outcome(lines: tuple[str, ...], use_dvc: bool) -> Outcome:
    text = "\n".join(lines)
    if use_dvc and "didn't change, skipping" in text:
        return "unchanged"
    if use_dvc and "is cached - skipping run" in text:
        return "from cache"
    return "ran"


def _is_dvc_busy(lines: tuple[str, ...]) -> bool:
    text = "\n".join(lines)
    return "Unable to acquire lock" in text or "is busy, it is being blocked by" in text


def _failure(stage: Stage, done: Completed, timeout_seconds: float) -> StageFailedError:
    if done.timed_out:
        return StageFailedError(
            f"{stage.name} was ended after {timeout_seconds:.0f} s. A training continues from its "
            "last checkpoint when started again; give it more time with stage_timeout_minutes."
        )
    code = _stage_code(done)
    own = [line for line in done.lines if is_worth_logging(line)]
    lines = [line for line in own if not line.startswith(ANNOUNCED)] or list(done.lines)
    shown = hide_secrets("\n".join(lines[-SHOWN_LINES:]))
    known = {kind.exit_code: kind for kind in (StageRefusedError, FaultStopsRunError)}
    kind = known.get(code, StageFailedError)
    return kind(f"{stage.name} ended with exit code {code}. Its last lines:\n{shown}")


def _stage_code(done: Completed) -> int:
    """Exit code of the stage itself, which DVC reports in words."""
    found = re.findall(r"exited with (-?\d+)", "\n".join(done.lines))
    return int(found[-1]) if found else done.code
