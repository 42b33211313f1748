"""Whether a planted fault changes anything at all.

The clean program is the oracle: where both declare the same, the same part, given the same input,
weights and seed, has to give the same numbers; and every part has to give the same twice. A fault
that passes every such comparison, and does not lower the held-out metric over matched seeds
either, is inert.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from tasks.diagnostics.subject import Subject
from tasks.fault_benchmark.comparisons import COMPARISONS, equal
from tasks.fault_benchmark.plan import Catalogue, Job, clean_job
from tasks.fault_benchmark.runner import subject_of

LEVEL = 0.05
"""Level of the one-sided sign-flip test; five seeds out of five give 1/32."""

METRIC = "test/ndcg_at_10"
MATCHED_SEEDS = (0, 1, 2, 3, 4)
KILL_FILE = Path("tasks") / "faults" / "kill_test.json"


@dataclass(frozen=True)
class Kill:
    """What a fault was seen to change.

    Attributes:
        model: Model it was planted in.
        parts: Parts of the program that gave other numbers, or failed.
        metric_drop: Mean drop of the test metric over seeds; None where nobody had to train.
        p_value: Of the sign-flip test of that drop.
    """

    model: str
    parts: tuple[str, ...]
    metric_drop: float | None = None
    p_value: float | None = None

    @property
    def killed(self) -> bool:
        """The fault is no equivalent program."""
        return bool(self.parts) or (self.p_value is not None and self.p_value <= LEVEL)


def kill_test(job: Job, catalogue: Catalogue) -> Kill:
    """Compare a fault with the program it is planted in; train only where nothing else shows it."""
    clean, faulty = subject_of(clean_job(job, catalogue), catalogue), subject_of(job, catalogue)
    parts = changed_parts(clean, faulty, job.seed)
    if not parts and ids_change_between_processes(job):
        parts = ("ids in another process",)
    if not parts and clean.train is not faulty.train:
        parts = ("train",) if _trainings_differ(clean, faulty, job.seed) else ()
    if parts:
        return Kill(job.model, parts)
    drops = [_metric_drop(job, catalogue, seed) for seed in MATCHED_SEEDS]
    return Kill(job.model, (), float(np.mean(drops)), sign_flip_p_value(np.array(drops)))


def kill_tests(
    jobs: Sequence[Job], catalogue: Catalogue, workers: int = 1
) -> Iterator[tuple[Job, Kill]]:
    """Run kill tests and yield each answer as it comes.

    Args:
        jobs: Faults of the repository, each with its model, log and seed.
        catalogue: Where they are found.
        workers: Processes side by side, each with one thread; 1 runs in this process.
    """
    if workers == 1:
        for job in jobs:
            yield job, kill_test(job, catalogue)
        return
    # Fresh processes: a forked one would inherit torch's threads.
    with ProcessPoolExecutor(workers, get_context("spawn"), _use_one_thread) as pool:
        running = {pool.submit(_kill_test_of_repository, job): job for job in jobs}
        for finished in as_completed(running):
            yield running[finished], finished.result()


def changed_parts(clean: Subject, faulty: Subject, seed: int) -> tuple[str, ...]:
    """Return the parts that differ from the clean ones, or from themselves when called again.

    Under another declaration a part may differ from the clean one; it still has to repeat.
    """
    same_declaration = clean.declared == faulty.declared
    changed = []
    for name, give in COMPARISONS.items():
        expected = give(clean, clean, seed)
        try:
            first = give(faulty, clean, seed)
            again = give(faulty, clean, seed)
        except Exception:
            # Whatever stops the program where the clean one runs is a difference.
            changed.append(name)
            continue
        if not equal(first, again) or (same_declaration and not equal(expected, first)):
            changed.append(name)
    return tuple(changed)


def sign_flip_p_value(differences: np.ndarray) -> float:
    """One-sided p-value of the mean being above 0, by flipping signs in every way.

    >>> sign_flip_p_value(np.array([1.0, 2.0, 1.5, 0.5, 1.0]))
    0.03125
    """
    signs = np.array(list(itertools.product([1, -1], repeat=len(differences))))
    return float(np.mean(signs @ differences >= differences.sum() - 1e-12))


def ids_change_between_processes(job: Job) -> bool:
    """Prepare the program's log in two processes whose strings hash differently."""
    found = set()
    for hash_seed in ("1", "2"):
        arguments = [job.kind, job.id, job.model, job.data, str(job.seed)]
        result = subprocess.run(  # noqa: S603 (our own module, our own arguments)
            [sys.executable, "-m", "tasks.fault_benchmark.label_order", *arguments],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        found.add(result.stdout)
    return len(found) > 1


def write_kills(path: Path, kills: Mapping[str, Kill]) -> None:
    """Write what the faults change, by id; results that are there already stay."""
    known = read_kills(path) | dict(kills)
    form = {id: {"killed": known[id].killed, **asdict(known[id])} for id in sorted(known)}
    path.write_text(json.dumps(form, indent=1) + "\n", encoding="utf-8")


def read_kills(path: Path) -> dict[str, Kill]:
    """Undo `write_kills`; {} where there is no file."""
    if not path.is_file():
        return {}
    form = json.loads(path.read_text(encoding="utf-8"))
    kills = {}
    for id, values in form.items():
        values.pop("killed")
        kills[id] = Kill(**{**values, "parts": tuple(values["parts"])})
    return kills


def _use_one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _kill_test_of_repository(job: Job) -> Kill:
    return kill_test(job, Catalogue.load())


def _trainings_differ(clean: Subject, faulty: Subject, seed: int) -> bool:
    def left(subject: Subject) -> list:
        trained = subject.train(subject, seed)
        curves = [
            {name: row[name] for name in row if name.startswith(("train/", "val/", "epoch"))}
            for row in trained.epochs
        ]
        weights = {name: p.numpy() for name, p in trained.model.state_dict().items()}
        return [dict(trained.metrics), curves, weights]

    return not equal(left(clean), left(faulty))


def _metric_drop(job: Job, catalogue: Catalogue, seed: int) -> float:
    at_seed = Job(job.kind, job.id, job.model, job.data, seed)
    builders: list[Callable[[], Subject]] = [
        lambda: subject_of(clean_job(at_seed, catalogue), catalogue),
        lambda: subject_of(at_seed, catalogue),
    ]
    values = []
    for build in builders:
        subject = build()
        try:
            values.append(subject.train(subject, seed).metrics[METRIC])
        except ArithmeticError:
            values.append(0.0)
    return values[0] - values[1]
