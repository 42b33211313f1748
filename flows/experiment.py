"""The flow that runs a whole experiment: the DAG of ``dvc.yaml``, one Prefect task per stage."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.states import Completed, State
from prefect.task_runners import ThreadPoolTaskRunner

from flows import artifacts, growth_check
from flows.dag import Stage, read_dag, unchanged_stages
from flows.process import STOPPING, Commands
from flows.reproduce import (
    ExperimentResult,
    FaultStopsRunError,
    StageRefusedError,
    StageResult,
    run_stage,
)
from flows.run_logs import ExperimentFailedError, shorten_expected_errors
from flows.workspace import Workspace, hash_settings, open_workspace
from tasks import tracking
from tasks.lock import HOLDER, WorkspaceBusyError, experiment_lock
from tasks.settings import Settings, load_settings
from tasks.tracking.experiment import DELIVER_LATER

STAGE_BYTES = 1_500_000_000
"""Memory a stage may need, by which the number of stages side by side is limited."""
RETRY_SECONDS = 5


shorten_expected_errors()


@dataclass(frozen=True)
class Plan:
    """How stages are run."""

    workspace: Path
    environment: dict[str, str]
    use_dvc: bool
    retries: int
    timeout_seconds: float
    parallel: int
    watch_growth: bool = False
    commands: Commands = field(default_factory=Commands)


def _name_at_start() -> str:
    parameters = flow_run.parameters
    return f"experiment {parameters.get('name') or Path(parameters['workspace']).resolve().name}"


@flow(name="experiment", flow_run_name=_name_at_start)
def experiment(
    workspace: str = ".",
    overrides: list[str] | None = None,
    name: str = "",
    use_dvc: bool = True,
    retries: int = 1,
    stage_timeout_minutes: float = 240.0,
    watch_growth: bool = False,
    settings_hash: str = "",
) -> ExperimentResult:
    """Run every stage that has something to do, independent ones side by side.

    Args:
        workspace: Folder with ``dvc.yaml`` and ``params.yaml``.
        overrides: ``section.key=value`` texts; such a run gets a folder of its own, ``runs/NAME``.
        name: Name of that folder; made from the overrides by default.
        use_dvc: Through DVC, which skips what is up to date and versions the outputs; or run all
            stages directly, in a folder of their own.
        retries: Tries after a stage failed, unless it says that settings or data are at fault.
        stage_timeout_minutes: A stage is ended after this time.
        watch_growth: Compare the prepared log with that of the last good run before training.
        settings_hash: `flows.workspace.hash_settings` of the settings to run with; those of
            ``params.yaml``, whichever they are, when empty.

    Raises:
        ExperimentFailedError: a stage failed; those that don't depend on it were run.
        WorkspaceBusyError: another experiment runs in the workspace, or gave it other settings.
        SettingsError: the settings can't be used.
    """
    place = _open(Path(workspace), overrides or [], name, use_dvc)
    started = time.monotonic()
    with experiment_lock(place.folder, f"flow run {flow_run.name}") as token:
        is_asked = bool(settings_hash) and place.folder == Path(workspace).resolve()
        _refuse_other_settings(place, settings_hash if is_asked else hash_settings(place.settings))
        try:
            with _tracked(place):
                seconds = stage_timeout_minutes * 60
                plan = _plan(place, token, use_dvc, retries, seconds)
                outcomes = _walk(replace(plan, watch_growth=watch_growth))
        except ExperimentFailedError as error:
            if error.exit_code == FaultStopsRunError.exit_code:
                artifacts.publish_diagnosis(place.folder)
            artifacts.rename_run(f"{place.folder.name}: {str(error).splitlines()[0]}")
            raise
    if watch_growth:
        growth_check.accept(place.folder)
    artifacts.publish(place.folder, outcomes)
    artifacts.rename_run(artifacts.run_name(place.folder, outcomes))
    return ExperimentResult(str(place.folder), outcomes, time.monotonic() - started)


def _refuse_other_settings(place: Workspace, expected: str) -> None:
    """Stop where another command wrote its settings before this one held the workspace."""
    path = place.folder / "params.yaml"
    if hash_settings(load_settings(path)) != expected:
        raise WorkspaceBusyError(
            f"{path} was replaced by another command just now. Run again, or beside it under "
            "another name: assay run --name NAME."
        )


@contextmanager
def _tracked(place: Workspace) -> Iterator[None]:
    """One parent run for all stages that log."""
    if not place.settings.tracking.enabled:
        yield
        return
    tracking.begin_experiment(place.folder, _tags(), place.settings)
    status = "KILLED"
    try:
        yield
        status = "FINISHED"
    except ExperimentFailedError:
        status = "FAILED"
        raise
    finally:
        tracking.end_experiment(place.folder, status)


def _open(folder: Path, overrides: list[str], name: str, use_dvc: bool) -> Workspace:
    """The folder to work in: the given one, or one of its own for a run that differs."""
    if overrides or name:
        return open_workspace(folder, overrides=overrides, name=name)
    place = Workspace(folder.resolve(), load_settings(folder / "params.yaml"), folder.resolve())
    if not use_dvc and (place.folder / "dvc.lock").exists():
        # Running past DVC would leave outputs that its lock file knows nothing of.
        return open_workspace(folder, name="no-dvc")
    return place


def _tags() -> dict[str, str]:
    return {
        "prefect.flow_run_id": str(flow_run.id or ""),
        "prefect.flow_run_name": str(flow_run.name or ""),
    }


def _plan(
    place: Workspace, token: str, use_dvc: bool, retries: int, timeout_seconds: float
) -> Plan:
    parallel = stages_side_by_side(place.settings, psutil.virtual_memory().available)
    environment = {HOLDER: token, DELIVER_LATER: "1"}
    if "OMP_NUM_THREADS" not in os.environ:
        environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // parallel))
    return Plan(place.folder, environment, use_dvc, retries, timeout_seconds, parallel)


def stages_side_by_side(settings: Settings, available_bytes: int) -> int:
    """Stages to run at a time: ``experiment.parallel``, fewer where memory or cores are short.

    Args:
        settings: All settings.
        available_bytes: Memory that is free.
    """
    by_memory = available_bytes // STAGE_BYTES
    by_cores = (os.cpu_count() or 1) // settings.train.shared.num_threads
    return max(1, min(settings.experiment.parallel, by_memory, by_cores))


def _walk(plan: Plan) -> dict[str, str]:
    """Run the DAG; a stage whose upstream failed is not started, all others are."""
    dag = read_dag(plan.workspace)
    unchanged = unchanged_stages(dag) if plan.use_dvc else set()
    futures: dict[str, PrefectFuture[StageResult]] = {}
    with ThreadPoolTaskRunner(max_workers=plan.parallel) as runner:
        try:
            for stage in dag:
                futures[stage.name] = runner.submit(
                    _stage_task(stage, plan, stage.name in unchanged),
                    parameters={},
                    wait_for=[futures[name] for name in stage.upstream],
                )
            for future in futures.values():
                future.wait()
        except BaseException:
            # Interrupted or cancelled; the runner waits for its threads, which wait for these.
            get_run_logger().warning(STOPPING)
            plan.commands.end_all()
            raise
    return _outcomes(futures)


def _stage_task(stage: Stage, plan: Plan, is_unchanged: bool) -> Any:
    """A Prefect task that runs one stage."""

    def run() -> State[StageResult]:
        if is_unchanged:
            result = StageResult(stage.name, "unchanged", 0.0)
        else:
            result = run_stage(
                stage,
                plan.workspace,
                plan.commands,
                use_dvc=plan.use_dvc,
                timeout_seconds=plan.timeout_seconds,
                log=get_run_logger().info,
                environment=plan.environment,
            )
        if stage.name == "prepare" and plan.watch_growth:
            # Of an unchanged log too: last night may have refused it.
            growth_check.check(plan.workspace, get_run_logger().info)
        name = {"ran": "Completed", "unchanged": "Unchanged", "from cache": "From cache"}
        return Completed(name=name[result.outcome], data=result)

    return task(
        run,
        name=stage.name.partition("@")[0],
        task_run_name=stage.name,
        # What is up to date is DVC's to decide; two caches disagree sooner or later.
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=plan.retries,
        retry_delay_seconds=RETRY_SECONDS,
        retry_condition_fn=_may_help_to_retry,
    )


def _may_help_to_retry(_task: Any, _run: Any, state: State[Any]) -> bool:
    return not isinstance(state.result(raise_on_failure=False), StageRefusedError)


def _outcomes(futures: dict[str, PrefectFuture[StageResult]]) -> dict[str, str]:
    """What every stage did.

    Raises:
        ExperimentFailedError: a stage failed.
    """
    outcomes: dict[str, str] = {}
    failures: list[BaseException] = []
    for name, future in futures.items():
        if future.state.is_completed():
            outcomes[name] = future.result().outcome
        elif not future.state.is_pending():
            failures.append(future.result(raise_on_failure=False))
    if not failures:
        return outcomes
    skipped = [name for name, future in futures.items() if future.state.is_pending()]
    after = f"\nNot started, as they need what failed: {', '.join(skipped)}." if skipped else ""
    # One stage that failed otherwise makes the whole a failure that another try may mend.
    codes = {getattr(failure, "exit_code", 1) for failure in failures}
    raise ExperimentFailedError(
        "\n".join(map(str, failures))
        + after
        + "\nWhat succeeded is kept; the same command continues there.",
        exit_code=min(codes),
    )
