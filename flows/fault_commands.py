"""What `assay faults` does: list faults, run them through the diagnosis, score the results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tasks.fault_benchmark.campaign import Outcome, run_campaign, sampled, with_clean_programs
from tasks.fault_benchmark.frozen import FROZEN, changed, digest, freeze, read_frozen
from tasks.fault_benchmark.kept import KEPT, keep, read_kept
from tasks.fault_benchmark.kill import KILL_FILE, Kill, kill_tests, read_kills, write_kills
from tasks.fault_benchmark.plan import (
    DEVELOPMENT_SEEDS,
    FAULT_MODELS,
    HEALTHY_MODELS,
    SCORING_SEEDS,
    Catalogue,
    Job,
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
    planted: bool = True,
    healthy: bool = True,
    effort: str = "",
    sample: int = 0,
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
        planted: Run faults.
        healthy: Run healthy variants.
        effort: Mode in which healthy variants are diagnosed; `exact` where empty.
        sample: How many healthy variants, drawn evenly over all; 0 takes all.
        own: A file of faults of one's own; only these are run.
        workers: Processes side by side.
        budget: Seconds after which nothing new is started; a cluster has no such end.
        cluster: Run on a Dask cluster: ``local`` or the address of its scheduler.
    """
    catalogue = Catalogue.load(own)
    chosen = (SCORING_SEEDS if scoring else DEVELOPMENT_SEEDS)[:seeds]
    shared = {"data": data, "seeds": chosen, "only": only}
    jobs = []
    if planted:
        found = fault_jobs(catalogue, models=models or FAULT_MODELS, **shared)
        jobs += with_clean_programs(found, catalogue)
    if healthy:
        chosen_models = models or HEALTHY_MODELS
        found = healthy_jobs(catalogue, models=chosen_models, effort=effort, **shared)
        jobs += sampled(found, sample, chosen[0])

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
    root: Path,
    *,
    only: Sequence[str] = (),
    model: str = "gru",
    data: str = "synthetic",
    again: bool = False,
    workers: int = 1,
) -> dict[str, Kill]:
    """Run the kill test of faults that have none yet, and keep what it says in the repository.

    On another log than the synthetic one it is kept under the name of fault and log: a fault may
    change nothing there.
    """
    catalogue = Catalogue.load()
    path = root / KILL_FILE
    known = {} if again else read_kills(path)
    jobs = fault_jobs(catalogue, seeds=(0,), models=(model,), data=(data,), only=only)
    waiting = [job for job in jobs if _kill_name(job) not in known]
    found: dict[str, Kill] = {}
    for job, kill in kill_tests(waiting, catalogue, workers):
        name = _kill_name(job)
        found[name] = kill
        write_kills(path, {name: kill})
        print(f"{name}: {'live' if kill.killed else 'inert'} {', '.join(kill.parts)}", flush=True)
    return found


def _kill_name(job: Job) -> str:
    return job.id if job.data == "synthetic" else f"{job.id}@{job.key[3]}"


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
    kept: bool = False,
    own: Path | None = None,
    as_json: bool = False,
) -> Score:
    """Score results and write `docs/fault_benchmark.md`.

    Args:
        root: The project.
        scoring: Score runs with scoring seeds; else those with development seeds.
        any_code: Take the newest result of every run, whatever code it was made with.
        kept: Take the results kept in the repository instead of those of this machine.
        own: A file of faults of one's own; its score is printed and nothing written.
        as_json: Print the score as JSON.

    Raises:
        ValueError: There is nothing to score.
    """
    from tasks.diagnostics.questions import QUESTIONS

    catalogue = Catalogue.load(own)
    chosen = _results(root, scoring=scoring, any_code=any_code, kept=kept, own=own is not None)
    kills = read_kills(root / KILL_FILE)
    result = score(chosen, catalogue, kills)
    faults = {id: fault for id, (_, fault) in catalogue.faults.items()}
    questions = [(question.number, question.id) for question in QUESTIONS]
    page = render(result, faults, kills, questions, _facts(root, catalogue, chosen, scoring))
    if own is None:
        (root / DOCUMENT).write_text(page, encoding="utf-8")
        page = f"wrote {DOCUMENT}"
        if scoring and not kept:
            keep(root / KEPT, chosen)
            page += f" and {KEPT}"
    print(json.dumps(as_values(result), indent=2) if as_json else page)
    return result


def _results(root: Path, *, scoring: bool, any_code: bool, kept: bool, own: bool) -> list[Row]:
    seeds = SCORING_SEEDS if scoring else DEVELOPMENT_SEEDS
    code = "" if any_code or kept else code_hash(root)
    rows = newest(read_kept(root / KEPT) if kept else read(root / RESULTS), code)
    chosen = [row for row in rows.values() if row.seed in seeds and _belongs(row, own)]
    if not chosen:
        raise ValueError(
            "there is no result to score under this code; run `assay faults run` first, take "
            "older results with --any-code, or those of the repository with --kept."
        )
    return sorted(chosen, key=lambda row: row.key)


def _facts(
    root: Path, catalogue: Catalogue, chosen: Sequence[Row], scoring: bool
) -> dict[str, str]:
    frozen = read_frozen(root)
    others = changed(catalogue, frozen)
    state = f"changed since: {', '.join(others)}" if others else "unchanged since"
    is_own = any(kind == "own" for kind, _ in catalogue.faults.values())
    seeds = ", ".join(map(str, sorted({row.seed for row in chosen})))
    return {
        "commands": "`assay faults kill --data LOG` per log, `assay faults freeze`, "
        "`assay faults run --scoring --seeds 1 --data LOG --model gru --no-healthy` per log "
        "and with `--model xlstm` on the synthetic one, "
        "`assay faults run --scoring --seeds 2 --no-planted --sample 320 --data LOG ...` "
        "(`--sample 16 --effort after_training` likewise), then `assay faults score --scoring`; "
        "`assay faults score --scoring --kept` renders this page from the kept results",
        "seeds": f"{seeds} ({'scoring' if scoring else 'development'}); questions and limits were "
        f"made with {', '.join(map(str, DEVELOPMENT_SEEDS))} on synthetic logs and samples of "
        "ml-100k, by listed faults and healthy programs alone; a fault that was held out earlier "
        "and whose miss was mended counts as listed. X19 leaves scores on a single direction open "
        "since alarms of `very_narrow` with the scoring seeds were read: 4 of 389 healthy runs "
        "were red before, and all was run again after it",
        "logs": ", ".join(sorted({row.data for row in chosen})),
        "runs": f"{len(chosen)}, {sum(row.seconds for row in chosen) / 3600:.1f} CPU-hours",
        "labels": "your own" if is_own else f"frozen as {digest(frozen)}, {state}",
        "sources": ", ".join(sorted({row.code for row in chosen})),
    }


def _belongs(row: Row, own: bool) -> bool:
    return row.kind in (
        ("own", "healthy", "clean") if own else ("listed", "held_out", "healthy", "clean")
    )
