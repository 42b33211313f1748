"""What `assay faults` does: list faults, run them through the diagnosis, score the results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tasks.fault_benchmark.campaign import Outcome, run_campaign, with_clean_programs
from tasks.fault_benchmark.frozen import FROZEN, freeze
from tasks.fault_benchmark.kill import KILL_FILE, Kill, kill_test, read_kills, write_kills
from tasks.fault_benchmark.plan import (
    DEVELOPMENT_SEEDS,
    FAULT_MODELS,
    HEALTHY_MODELS,
    SCORING_SEEDS,
    Catalogue,
    fault_jobs,
    healthy_jobs,
)
from tasks.fault_benchmark.report import render
from tasks.fault_benchmark.rows import RESULTS, Row, newest, read
from tasks.fault_benchmark.score import Score, as_values, score
from tasks.fault_benchmark.sources import code_hash

DOCUMENT = Path("docs") / "fault_benchmark.md"


def list_faults(own: Path | None = None, as_json: bool = False) -> None:
    """Print every fault and healthy variant with its label."""
    catalogue = Catalogue.load(own)
    rows = [
        {
            "id": fault.id,
            "kind": kind,
            "layer": fault.layer,
            "title": fault.title,
            "expected": sorted(fault.expected),
            "stages": sorted(fault.stages),
        }
        for kind, fault in catalogue.faults.values()
    ]
    rows += [
        {"id": variant.id, "kind": "healthy", "layer": "", "title": variant.title}
        for variant in catalogue.variants.values()
    ]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        print(f"{row['kind']:9} {row['layer']:11} {row['id']:32} {row['title']}")


def run_faults(
    root: Path,
    *,
    only: Sequence[str] = (),
    seeds: int = len(DEVELOPMENT_SEEDS),
    scoring: bool = False,
    data: Sequence[str] = ("synthetic",),
    models: Sequence[str] = (),
    healthy: bool = True,
    own: Path | None = None,
    workers: int = 1,
    budget: float = float("inf"),
    cluster: str = "",
) -> Outcome:
    """Run faults, the clean programs they are planted in, and healthy variants.

    Args:
        root: The project.
        only: Ids of faults or variants; empty means all.
        seeds: How many of the development or scoring seeds.
        scoring: Use the scoring seeds.
        data: `synthetic` and paths of logs.
        models: Models; the usual ones where empty.
        healthy: Run healthy variants too.
        own: A file of faults of one's own; only these are run.
        workers: Processes side by side.
        budget: Seconds after which nothing new is started; a cluster has no such end.
        cluster: Run on a Dask cluster: ``local`` or the address of its scheduler.
    """
    catalogue = Catalogue.load(own)
    chosen = (SCORING_SEEDS if scoring else DEVELOPMENT_SEEDS)[:seeds]
    shared = {"data": data, "seeds": chosen, "only": only}
    jobs = fault_jobs(catalogue, models=models or FAULT_MODELS, **shared)
    jobs = with_clean_programs(jobs, catalogue)
    if healthy:
        jobs += healthy_jobs(catalogue, models=models or HEALTHY_MODELS, **shared)

    def tell(row: Row, number: int, total: int) -> None:
        found = ", ".join(red.question for red in row.reds) or row.crashed or "nothing red"
        print(f"[{number}/{total}] {row.id} {row.model} {row.data} seed {row.seed}: {found}")

    where = (jobs, root / RESULTS, code_hash(root))
    if cluster:
        from flows.cluster_faults import run_on_cluster

        outcome = run_on_cluster(*where, cluster=cluster, workers=workers, own=own, on_row=tell)
    else:
        outcome = run_campaign(*where, own=own, workers=workers, budget=budget, on_row=tell)
    print(f"{outcome.run} run, {outcome.kept} known already, {outcome.left} left for another time")
    return outcome


def run_kill_tests(
    root: Path, *, only: Sequence[str] = (), model: str = "gru", again: bool = False
) -> dict[str, Kill]:
    """Run the kill test of faults that have none yet, and keep what it says in the repository."""
    catalogue = Catalogue.load()
    path = root / KILL_FILE
    known = {} if again else read_kills(path)
    found: dict[str, Kill] = {}
    for job in fault_jobs(catalogue, seeds=(0,), models=(model,), only=only):
        if job.id in known:
            continue
        found[job.id] = kill_test(job, catalogue)
        write_kills(path, {job.id: found[job.id]})
        kill = found[job.id]
        print(f"{job.id}: {'live' if kill.killed else 'inert'} {', '.join(kill.parts)}")
    return found


def freeze_labels(root: Path) -> str:
    """Write down the labels of all faults; a later change of one is named by the score."""
    found = freeze(root, Catalogue.load())
    print(f"wrote {FROZEN}: labels {found}")
    return found


def score_faults(
    root: Path,
    *,
    scoring: bool = False,
    any_code: bool = False,
    own: Path | None = None,
    as_json: bool = False,
) -> Score:
    """Score the results of this code and write `docs/fault_benchmark.md`.

    Args:
        root: The project.
        scoring: Score runs with scoring seeds; else those with development seeds.
        any_code: Take the newest result of every run, whatever code it was made with.
        own: A file of faults of one's own; its score is printed and nothing written.
        as_json: Print the score as JSON.
    """
    from tasks.diagnostics.questions import QUESTIONS

    catalogue = Catalogue.load(own)
    code = code_hash(root)
    seeds = SCORING_SEEDS if scoring else DEVELOPMENT_SEEDS
    rows = newest(read(root / RESULTS), "" if any_code else code)
    chosen = [row for row in rows.values() if row.seed in seeds and _belongs(row, own is not None)]
    kills = read_kills(root / KILL_FILE)
    result = score(chosen, catalogue, kills)
    faults = {id: fault for id, (_, fault) in catalogue.faults.items()}
    if not chosen:
        raise ValueError(
            "there is no result to score under this code; run `assay faults run` first, or take "
            "older results with --any-code."
        )
    facts = {
        "made by": "`assay faults run`, then `assay faults score`",
        "seeds": f"{', '.join(map(str, sorted({row.seed for row in chosen})))} "
        f"({'scoring' if scoring else 'development'}; questions and limits were made with "
        f"{', '.join(map(str, DEVELOPMENT_SEEDS))})",
        "logs": ", ".join(sorted({row.data for row in chosen})),
        "processor time": f"{sum(row.seconds for row in chosen) / 60:.0f} minutes",
        "sources": ", ".join(sorted({row.code for row in chosen})),
    }
    questions = [(question.number, question.id) for question in QUESTIONS]
    page = render(result, faults, kills, questions, facts)
    if own is None:
        (root / DOCUMENT).write_text(page, encoding="utf-8")
        page = f"wrote {DOCUMENT}"
    print(json.dumps(as_values(result), indent=2) if as_json else page)
    return result


def _belongs(row: Row, own: bool) -> bool:
    return row.kind in (
        ("own", "healthy", "clean") if own else ("listed", "held_out", "healthy", "clean")
    )
