"""Studies: one per model, kept in a file, so that a killed search goes on where it stopped.

Trials run in processes side by side, models in turn, so that an early end leaves every model with
the same number. With more than one process the order in which results arrive, and so what is drawn
next, depends on the machine; the settings that were found are what is kept.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from tasks.tuning.journal import mend_journal
from tasks.tuning.space import drawn_section, start_of, tunable
from tasks.tuning.trial import load_data, run_trial

COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)
WITHOUT_EFFECT = (
    "device",
    "num_threads",
    "record_every_steps",
    "checkpoint_every_steps",
    "warm_start",
)
"""Shared settings that make no other study: trials begin from scratch and keep nothing."""
STARTUP_TRIALS = 10
"""Random draws before the sampler and the pruner learn from results."""
PATIENT_EPOCHS = 5
"""Epochs no trial is ended before."""


class StudyDamagedError(ValueError):
    """The file that keeps a search holds what no search writes."""


@dataclass(frozen=True)
class Search:
    """What is searched.

    Attributes:
        data: Folder of prepared data.
        storage: File that keeps all trials.
        models: Neural models.
        trials: Trials per model.
        shared: Values of `train.shared`, the same for all.
        sections: Values of `train.<model>` to start from.
        seed: Of the draws.
    """

    data: Path
    storage: Path
    models: tuple[str, ...]
    trials: int
    shared: Mapping[str, Any]
    sections: Mapping[str, Mapping[str, Any]]
    seed: int = 0

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.models) - set(tunable())):
            raise ValueError(
                f"models {unknown} have nothing to tune; expected some of {', '.join(tunable())}."
            )

    def study_name(self, model: str) -> str:
        """Name of a model's study; other settings or data make it another study."""
        manifest = json.loads((self.data / "manifest.json").read_text(encoding="utf-8"))
        shared = {name: v for name, v in self.shared.items() if name not in WITHOUT_EFFECT}
        about = [manifest["data_hash"], shared, dict(self.sections[model]), self.seed]
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:8]
        return f"{model}-{digest}"


def open_study(search: Search, model: str, draw: int = 0) -> optuna.Study:
    """Open a model's study, or begin it.

    Args:
        search: What is searched.
        model: A model of it.
        draw: Number of the coming trial. Every process opens the study anew, so a sampler seeded
            the same each time would draw the same settings again and again.

    Raises:
        StudyDamagedError: the file was changed by something else.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        storage = JournalStorage(JournalFileBackend(str(search.storage)))
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise StudyDamagedError(
            f"{search.storage} can't be read ({type(error).__name__}: {error}). Move it away to "
            "begin the search anew."
        ) from error
    return optuna.create_study(
        study_name=search.study_name(model),
        storage=storage,
        direction="maximize",
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(
            seed=search.seed * 100_003 + draw, n_startup_trials=STARTUP_TRIALS, constant_liar=True
        ),
        pruner=optuna.pruners.MedianPruner(STARTUP_TRIALS, PATIENT_EPOCHS),
    )


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that count against the budget: complete ones and those ended early.

    The same settings drawn twice, as they are rounded for training, count once.
    """
    trials = study.get_trials(deepcopy=False, states=COUNTED)
    return list({json.dumps(_drawn(trial), sort_keys=True): trial for trial in trials}.values())


def _drawn(trial: FrozenTrial) -> dict[str, Any]:
    return drawn_section(trial.params, {})


def run_search(
    search: Search,
    *,
    workers: int = 1,
    devices: Sequence[str] = ("auto",),
    budget: float = float("inf"),
    on_trial: Callable[[str, FrozenTrial], None] | None = None,
    spread: Callable[..., int] | None = None,
) -> dict[str, int]:
    """Run what is missing of a search and return the number of counted trials per model.

    Trials that a killed search left running are begun anew. The first trial of a model is of the
    settings it has, where the space holds them: no search ends below what there was.

    Args:
        search: What is searched.
        workers: Processes side by side.
        devices: `auto`, `cpu`, `cuda:0` ..., dealt out to the workers in turn.
        budget: Seconds after which no new trial starts.
        on_trial: Told of every trial, by model, as it ends.
        spread: Runs a function on many pieces elsewhere, as `flows.cluster.spread` does, instead of
            ``workers`` processes here; what runs there has to reach the files of the search.
    """
    search.storage.parent.mkdir(parents=True, exist_ok=True)
    mend_journal(search.storage)
    left = {model: search.trials - _clear(search, model) for model in search.models}
    first = {model: len(open_study(search, model).trials) for model in search.models}
    jobs = [
        (model, first[model] + n)
        for n in range(search.trials)
        for model in search.models
        if n < left[model]
    ]
    for model in search.models:
        if left[model] > 0:
            _begin_with_base(search, model)

    def tell(ended: tuple[str, int] | None) -> None:
        if ended is not None and on_trial is not None:
            model, number = ended
            on_trial(model, open_study(search, model).trials[number])

    if spread is not None:
        until = time.time() + budget
        pieces = [
            (search, *job, devices[number % len(devices)], until) for number, job in enumerate(jobs)
        ]
        spread(run_piece, pieces, on_result=tell)
    else:
        for ended in _results(search, jobs, workers, devices, time.monotonic() + budget):
            tell(ended)
    return {model: len(finished(open_study(search, model))) for model in search.models}


def _clear(search: Search, model: str) -> int:
    """Close what a killed search left running; return how many trials count."""
    study = open_study(search, model)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    return len(finished(study))


def _begin_with_base(search: Search, model: str) -> None:
    """Have the settings the search starts from tried next, unless they were."""
    start = start_of(model, dict(search.sections[model]))
    study = open_study(search, model)
    tried = [_drawn(trial) for trial in finished(study)]
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    if start is not None and drawn_section(start, {}) not in tried and not waiting:
        study.enqueue_trial(start)


def _results(
    search: Search,
    jobs: list[tuple[str, int]],
    workers: int,
    devices: Sequence[str],
    deadline: float,
) -> Any:
    """Yield model and trial number as trials end."""
    if not jobs:
        return
    # Fresh processes: a forked one would inherit torch's threads.
    context = get_context("spawn")
    turns = context.Queue()
    for number in range(workers):
        turns.put(devices[number % len(devices)])
    with ProcessPoolExecutor(workers, context, _start_worker, (search, turns)) as pool:
        queue, running = iter(jobs), set[Future[tuple[str, int]]]()
        while True:
            while len(running) < workers and time.monotonic() < deadline:
                job = next(queue, None)
                if job is None:
                    break
                running.add(pool.submit(_work, search, *job))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()


_worker: dict[str, Any] = {}


def _start_worker(search: Search, turns: Any) -> None:
    _worker.update(device=turns.get(), data=load_data(search.data))


def run_piece(piece: tuple[Search, str, int, str, float]) -> tuple[str, int] | None:
    """Run one trial wherever this is called; None when the time to begin one is over.

    Args:
        piece: What is searched, model, number of the draw, device, and the latest start in seconds
            since the epoch.
    """
    import torch

    search, model, draw, device, until = piece
    if time.time() >= until:
        return None
    torch.set_num_threads(int(search.shared["num_threads"]))
    if _worker.get("folder") != search.data:
        _worker.update(folder=search.data, data=load_data(search.data))
    _worker["device"] = device
    return _work(search, model, draw)


def _work(search: Search, model: str, draw: int) -> tuple[str, int]:
    import torch

    device = _worker["device"]
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)
        device = "cuda"
    study = open_study(search, model, draw)
    trial = study.ask()
    try:
        shared = {**search.shared, "device": device}
        value = run_trial(trial, model, _worker["data"], shared, search.sections[model])
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except BaseException:
        study.tell(trial, state=TrialState.FAIL)
        raise
    else:
        study.tell(trial, value)
    return model, trial.number


def best_section(search: Search, model: str) -> tuple[dict[str, Any], float]:
    """The settings of a model's best trial and its validation NDCG@10.

    Raises:
        ValueError: No trial is complete.
    """
    study = open_study(search, model)
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        raise ValueError(f"{model} has no complete trial in {search.storage}; run more trials.")
    best = study.best_trial
    return drawn_section(best.params, dict(search.sections[model])), float(best.value)
