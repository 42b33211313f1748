"""What of a search is shared by processes: a study, claims and results of one model on one log."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from benchmarks.peers.space import draw
from tasks.data.prepared import PreparedData
from tasks.tuning.study import COUNTED, PATIENT_EPOCHS, STARTUP_TRIALS

FEWEST_TRIALS = 8
"""Complete or ended ones, that a search which ran out of time needs for final trainings."""
MOST_FAILURES = 4
"""Trainings that end in an error before a peer is given up."""


@dataclass(frozen=True)
class Budget:
    """What there is to do, and until when.

    Attributes:
        trials: Of every peer on every log.
        seeds: Final trainings of every peer on every log.
        search_until: `time.time` from which no trial is begun.
        until: When every training is cut off.
    """

    trials: int
    seeds: int
    search_until: float
    until: float


@dataclass(frozen=True)
class Chosen:
    """Settings of final trainings, and where they are from.

    Attributes:
        settings: By name.
        value: Best validation of the search; None where they were given.
        trials: Of the search.
        source: Number of the trial, or ``given``.
    """

    settings: dict[str, Any]
    value: float | None
    trials: int
    source: str


class Place:
    """One log of one peer: its data, its study and its claims.

    A log that is not searched borrows the study of the one it names, or has settings given.

    Args:
        folder: Packed run.
        name: The peer.
        out: Where results go.
    """

    def __init__(self, folder: Path, name: str, out: Path) -> None:
        self.log, self.name, self.out = folder.name, name, out
        self.key = f"{folder.name}-{name}"
        self.shared = json.loads((folder / "peers.json").read_text(encoding="utf-8"))
        self._given: dict[str, Any] | None = self.shared.get("settings", {}).get(name)
        lender = self.shared.get("settings_of", "")
        self._study_name = f"{lender or self.log}-{name}"
        self._is_searched = not lender
        self._is_lacking = (
            bool(lender) and self._given is None and not self.shared["is_searched_elsewhere"]
        )
        self.data = PreparedData.load(folder / "data" / "prepared")
        (out / "state").mkdir(parents=True, exist_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from drawing or claiming meanwhile."""
        with (self.out / "state" / f"{self.key}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def study(self) -> optuna.Study:
        """The search this place goes by; each process and draw has a sampler of its own."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        path = self.out / "state" / f"{self._study_name}.journal"
        study = optuna.create_study(
            study_name=self._study_name,
            storage=JournalStorage(JournalFileBackend(str(path))),
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(STARTUP_TRIALS, PATIENT_EPOCHS),
        )
        study.sampler = optuna.samplers.TPESampler(
            seed=len(study.trials), n_startup_trials=STARTUP_TRIALS, constant_liar=True
        )
        return study

    def chosen(self) -> Chosen:
        """The settings of final trainings; a search has to have a complete trial."""
        if self._given is not None:
            return Chosen(self._given, None, 0, "given")
        study = self.study()
        counted = len(study.get_trials(deepcopy=False, states=COUNTED))
        best = study.best_trial
        settings = draw(optuna.trial.FixedTrial(best.params), self.name)
        return Chosen(settings, best.value, counted, str(best.number))

    def next_trial(self, budget: Budget) -> tuple[optuna.Trial, dict[str, Any]] | None:
        """A trial with drawn settings; None when there are enough or the time is up."""
        if not self._is_searched or time.time() >= budget.search_until:
            return None
        with self.lock():
            study = self.study()
            begun = study.get_trials(deepcopy=False, states=(*COUNTED, TrialState.RUNNING))
            if len(begun) >= budget.trials or self._is_given_up():
                return None
            trial = study.ask()
            return trial, draw(trial, self.name)

    def next_seed(self, budget: Budget) -> int | None:
        """A seed that nobody trains yet; None while the search goes on or when all are taken."""
        if self._given is None:
            counted = len(self.study().get_trials(deepcopy=False, states=COUNTED))
            enough = FEWEST_TRIALS if time.time() >= budget.search_until else budget.trials
            if counted < min(enough, budget.trials):
                return None
        for seed in range(budget.seeds):
            try:
                self._claim(seed).touch(exist_ok=False)
            except FileExistsError:
                continue
            return seed
        return None

    def may_go_on(self, budget: Budget) -> bool:
        """Whether there may be something to do later."""
        if all(self._claim(seed).exists() for seed in range(budget.seeds)):
            return False
        return not self._is_given_up()

    def _claim(self, seed: int) -> Path:
        return self.out / "state" / f"{self.key}.seed{seed}"

    def _is_given_up(self) -> bool:
        """Whether trainings here keep failing, or those of the search it waits for, if any."""
        if self._is_lacking:
            return True
        names = {self.key} if self._given is not None else {self.key, self._study_name}
        paths = [self.out / f"errors-{name}.jsonl" for name in names]
        lines = [path.read_text().splitlines() for path in paths if path.is_file()]
        return any(len(errors) >= MOST_FAILURES for errors in lines)

    def write(self, kind: str, row: dict[str, Any]) -> None:
        """Append a result."""
        row = {"log": self.log, "model": self.name, **row}
        with self.lock(), (self.out / f"{kind}-{self.key}.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
