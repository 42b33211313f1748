"""The fault benchmark on a cluster: jobs in bundles, results into the same file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.cluster import spread
from tasks.fault_benchmark.campaign import Outcome
from tasks.fault_benchmark.plan import Catalogue, Job
from tasks.fault_benchmark.rows import Row, append, newest, read
from tasks.fault_benchmark.runner import run_job

JOBS_IN_BUNDLE = 8
"""Jobs a worker takes at once: a second of work for every few milliseconds of scheduling."""


def run_bundle(bundle: dict[str, Any]) -> list[Row]:
    """Run the jobs of a bundle, in a worker."""
    import torch

    torch.set_num_threads(1)
    catalogue = Catalogue.load(bundle["own"])
    return [run_job(job, catalogue, bundle["code"]) for job in bundle["jobs"]]


def run_on_cluster(
    jobs: Sequence[Job],
    results: Path,
    code: str,
    *,
    cluster: str,
    workers: int,
    own: Path | None = None,
    on_row: Any,
) -> Outcome:
    """Run jobs that have no result under this code yet; see `run_campaign`.

    Args:
        jobs: What to run.
        results: File of results.
        code: Digest of the sources.
        cluster: See `flows.cluster.spread`.
        workers: Processes of a local cluster.
        own: A user's file of faults.
        on_row: Called with each new row, its number and the number of jobs to run.
    """
    known = newest(read(results), code)
    waiting = [job for job in jobs if job.key not in known]
    bundles = [
        {"jobs": waiting[start : start + JOBS_IN_BUNDLE], "own": own, "code": code}
        for start in range(0, len(waiting), JOBS_IN_BUNDLE)
    ]
    done = 0

    def take(rows: list[Row]) -> None:
        nonlocal done
        for row in rows:
            append(results, row)
            done += 1
            on_row(row, done, len(waiting))

    spread(
        run_bundle,
        bundles,
        name="fault-benchmark",
        cluster=cluster,
        workers=workers,
        on_result=take,
    )
    return Outcome(run=done, kept=len(jobs) - len(waiting), left=len(waiting) - done)
