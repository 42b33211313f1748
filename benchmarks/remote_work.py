"""Trains and evaluates many runs side by side, on as many GPUs as there are.

Trainings and evaluations are the pipeline's own stages in processes of their own. A run's
evaluation starts when its last training has ended. When the time is up, trainings under way are
ended and runs that lack some are evaluated with the seeds that all their models have. What runs out
of memory beside others is begun anew when one of them has ended.

Run as a program, it is one of these processes: it trains what its arguments name, ``gru:0``.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import Empty, PriorityQueue, SimpleQueue

from tasks.__main__ import run_stage
from tasks.settings import load_settings, settings_from_dict, write_params

ROOT = Path(__file__).resolve().parents[1]
SLOWEST_FIRST = ("xlstm", "sasrec", "lstm", "gru", "logistic_regression")
FITTED = ("popularity", "transitions")
"""Models that are counted in no time: one process fits all of a run."""
OUT_OF_MEMORY = ("OutOfMemoryError", "out of memory", "ALLOC_FAILED")
"""What PyTorch, the driver and cuBLAS say of it."""
THREADS = 1
"""Of every process: several ones whose threads wait for each other by turning take ten times as
long on cores that others use too."""


@dataclass(frozen=True)
class Job:
    """Trainings of one run that one process makes, one after the other."""

    folder: Path
    trainings: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        named = ", ".join(f"{model} seed {seed}" for model, seed in self.trainings)
        return f"{self.folder.name} {named}"


@dataclass
class Plan:
    """What to do within which time.

    Attributes:
        workers: Processes side by side.
        gpus: GPUs dealt out to them in turn; 0 trains on the processor.
        deadline: `time.monotonic` at which trainings are ended.
        evaluate: Evaluate every run when its trainings have ended.
    """

    workers: int
    gpus: int
    deadline: float
    evaluate: bool
    left: dict[Path, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    running: int = 0
    begun: int = 0
    ended: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)


def trained(folder: Path, model: str, seed: int) -> bool:
    """Whether a training was finished."""
    return (folder / "artifacts" / "models" / model / f"seed_{seed}" / "record.json").is_file()


def make_jobs(folder: Path, models: list[str], seeds: list[int]) -> list[Job]:
    """What a run lacks, seed by seed, slow models first, counted ones together."""
    experiment = load_settings(folder / "params.yaml").experiment
    wanted = [
        (model, seed)
        for seed in seeds or experiment.seeds
        for model in models or experiment.models
        if not trained(folder, model, seed)
    ]
    slow = [pair for pair in wanted if pair[0] not in FITTED]
    slow.sort(key=lambda pair: (pair[1], SLOWEST_FIRST.index(pair[0])))
    fitted = tuple(pair for pair in wanted if pair[0] in FITTED)
    return [Job(folder, (pair,)) for pair in slow] + ([Job(folder, fitted)] if fitted else [])


def work_off(jobs: list[Job], plan: Plan, say: Callable[[str], None] = print) -> None:
    """Run jobs in their order, and evaluations before all that is left."""
    queue: PriorityQueue[tuple[int, int, Job | Path]] = PriorityQueue()
    order = itertools.count()
    for job in jobs:
        plan.left[job.folder] = plan.left.get(job.folder, 0) + 1
        queue.put((1, next(order), job))
    places: SimpleQueue[int] = SimpleQueue()
    for number in range(plan.workers):
        places.put(number)

    def serve() -> None:
        place = places.get()
        while True:
            try:
                _, _, task = queue.get_nowait()
            except Empty:
                return
            if isinstance(task, Path):
                work = partial(evaluate, task, _visible(plan, place))
                say(_beside_others(f"evaluation of {task.name}", work, plan, say))
                continue
            say(_beside_others(str(task), partial(_train, task, plan, place), plan, say))
            with plan.lock:
                plan.left[task.folder] -= 1
                is_last = plan.left[task.folder] == 0
            if is_last and plan.evaluate:
                queue.put((0, next(order), task.folder))

    threads = [threading.Thread(target=serve) for _ in range(plan.workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _beside_others(
    name: str, work: Callable[[], str], plan: Plan, say: Callable[[str], None]
) -> str:
    """Do a piece of work, and again after each time that memory did not suffice for all of them."""
    while True:
        with plan.changed:
            plan.running += 1
            plan.begun += 1
            begun, was_alone = plan.begun, plan.running == 1
        said = work()
        with plan.changed:
            plan.running -= 1
            was_alone = was_alone and plan.begun == begun
            if was_alone or not any(words in said for words in OUT_OF_MEMORY):
                plan.ended += 1
                plan.changed.notify_all()
                return said
            say(f"{name}: out of memory beside others, begun anew when one has ended")
            if plan.running:
                ended = plan.ended
                plan.changed.wait_for(lambda ended=ended: plan.ended > ended)


def _train(job: Job, plan: Plan, place: int) -> str:
    remaining = None
    if plan.deadline < float("inf"):
        remaining = plan.deadline - time.monotonic()
    if remaining is not None and remaining <= 0:
        return f"{job}: not started, no time left"
    start = time.monotonic()
    command = ["benchmarks.remote_work", *(f"{model}:{seed}" for model, seed in job.trainings)]
    try:
        _run_module(job.folder, command, visible=_visible(plan, place), timeout=remaining)
    except subprocess.TimeoutExpired:
        return f"{job}: ended, no time left"
    except subprocess.CalledProcessError as error:
        return f"{job}: failed, {error.stderr.strip().splitlines()[-3:]}"
    return f"{job}: {time.monotonic() - start:.0f} s"


def _visible(plan: Plan, place: int) -> str:
    """Which GPU a process may use, as CUDA_VISIBLE_DEVICES says it."""
    return str(place % plan.gpus) if plan.gpus else ""


def evaluate(folder: Path, visible: str = "") -> str:
    """Evaluate a run with the seeds that all its models have, and say so in its settings.

    Args:
        folder: the run.
        visible: the GPU that ranks; '' for the processor.
    """
    settings = load_settings(folder / "params.yaml")
    experiment = settings.experiment
    seeds = [s for s in experiment.seeds if all(trained(folder, m, s) for m in experiment.models)]
    if not seeds:
        return f"{folder.name}: no seed has all models, not evaluated"
    if seeds != list(experiment.seeds):
        values = settings.model_dump(mode="json")
        values["experiment"]["seeds"] = seeds
        write_params(settings_from_dict(values), folder / "params.yaml")
    start = time.monotonic()
    try:
        _run_module(folder, ["tasks", "evaluate"], visible=visible)
    except subprocess.CalledProcessError as error:
        return f"{folder.name}: evaluation failed, {error.stderr.strip().splitlines()[-3:]}"
    return f"{folder.name}: evaluated seeds {seeds} in {time.monotonic() - start:.0f} s"


def _run_module(
    folder: Path,
    command: list[str],
    *,
    visible: str = "",
    timeout: float | None = None,
) -> None:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH", "")])])
    environment = {
        **os.environ,
        "PYTHONPATH": path,
        "CUDA_VISIBLE_DEVICES": visible,
        "OMP_NUM_THREADS": str(THREADS),
    }
    subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=timeout,
    )


def main() -> None:
    """Train what the arguments name in the folder this process was started in."""
    for argument in sys.argv[1:]:
        model, seed = argument.split(":")
        run_stage("train", Path.cwd(), model=model, seed=int(seed))


if __name__ == "__main__":
    main()
