"""Runs many jobs, side by side, within a budget; what was run before is not run again."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from tasks.fault_benchmark.plan import Catalogue, Job, clean_job
from tasks.fault_benchmark.rows import Row, append, newest, read
from tasks.fault_benchmark.runner import run_job

FAULT_KINDS = ("listed", "held_out", "own")

_catalogue: Catalogue | None = None


@dataclass(frozen=True)
class Outcome:
    """What a campaign did.

    Attributes:
        run: Jobs that were run now.
        kept: Jobs whose results were there already.
        left: Jobs the budget did not reach.
    """

    run: int
    kept: int
    left: int


def with_clean_programs(jobs: Sequence[Job], catalogue: Catalogue) -> list[Job]:
    """Put the clean program of every fault before it, each once."""
    listed: dict[Job, None] = {}
    for job in jobs:
        if job.kind in FAULT_KINDS:
            listed[clean_job(job, catalogue)] = None
        listed[job] = None
    return list(listed)


def sampled(jobs: Sequence[Job], count: int, seed: int) -> list[Job]:
    """Return that many jobs, drawn evenly from all; 0 takes all of them in their order."""
    if not count:
        return list(jobs)
    drawn = list(jobs)
    random.Random(seed).shuffle(drawn)
    return drawn[:count]


def run_campaign(
    jobs: Sequence[Job],
    results: Path,
    code: str,
    *,
    own: Path | None = None,
    workers: int = 1,
    budget: float = float("inf"),
    on_row: Callable[[Row, int, int], None] | None = None,
) -> Outcome:
    """Run jobs that have no result under this code yet, and append each result as it comes.

    Args:
        jobs: What to run, in order.
        results: File of results.
        code: Digest of the sources.
        own: A user's file of faults; None takes the repository's.
        workers: Processes side by side, each with one thread; 1 runs in this process.
        budget: Seconds after which no new job is started.
        on_row: Called with each new row, its number and the number of jobs to run.
    """
    known = newest(read(results), code)
    waiting = [job for job in jobs if job.key not in known]
    done = 0
    for row in _rows(waiting, code, own, workers, time.monotonic() + budget):
        append(results, row)
        done += 1
        if on_row is not None:
            on_row(row, done, len(waiting))
    return Outcome(run=done, kept=len(jobs) - len(waiting), left=len(waiting) - done)


def _rows(
    jobs: Sequence[Job], code: str, own: Path | None, workers: int, deadline: float
) -> Iterator[Row]:
    if workers == 1:
        catalogue = Catalogue.load(own)
        for job in jobs:
            if time.monotonic() >= deadline:
                return
            yield run_job(job, catalogue, code)
        return
    # Fresh processes: a forked one would inherit torch's threads.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (own,))
    with pool:
        queue = iter(jobs)
        running: set[Future[Row]] = set()
        while True:
            while len(running) < workers and time.monotonic() < deadline:
                job = next(queue, None)
                if job is None:
                    break
                running.add(pool.submit(_run, job, code))
            if not running:
                return
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()


def _start_worker(own: Path | None) -> None:
    global _catalogue
    import torch

    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    _catalogue = Catalogue.load(own)


def _run(job: Job, code: str) -> Row:
    return run_job(job, _catalogue, code)
