"""Logs what the stages after training found: test metrics, comparison, report, the champion."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.settings import Settings
from tasks.tracking import champion, description, experiment, identity, state, verdicts
from tasks.tracking.parameters import GLANCE
from tasks.tracking.run import ModelRun, RunLog, now

if TYPE_CHECKING:
    import polars as pl

RANKS_FILE = "ranks.parquet"
SELECTION_METRIC = "ndcg_at_10"
Child = tuple[str, int]


def log_evaluation(settings: Settings, workspace: Path) -> None:
    """Log the evaluation of every configured model; called when its files are written.

    Models whose training was skipped get a light child run under the open parent, so that the
    compare page shows all of them. The best model by validation NDCG@10 is a candidate for the
    alias ``champion``.

    Args:
        settings: All settings.
        workspace: Folder of the experiment.
    """
    if not settings.tracking.enabled:
        return
    _log_results(settings, workspace)
    experiment.deliver_unless_later(workspace)


def log_report(settings: Settings, workspace: Path) -> None:
    """Log diagnosis and report, and close the parent run unless a flow does that.

    Args:
        settings: All settings.
        workspace: Folder of the experiment.
    """
    if not settings.tracking.enabled:
        return
    log = experiment.parent_log(settings, workspace)
    if not state.read(workspace).evaluated:
        _log_results(settings, workspace)
    for name in ("report", "diagnosis"):
        log.add_copy("artifacts", workspace / "artifacts" / name, folder=name)
    verdicts.log_verdicts(settings, workspace, log)
    if text := description.describe_experiment(workspace):
        log.add_tags({description.DESCRIPTION_TAG: text})
    _log_views(workspace, log)
    if not log.entry.by_flow:
        experiment.end_experiment(workspace)
    else:
        experiment.deliver_unless_later(workspace)


def _log_views(workspace: Path, parent: RunLog) -> None:
    """Ask for the views of this run, after the records of all children: they are delivered last."""
    children = state.read(workspace).children.values()
    last = max(children, key=lambda entry: entry.journal, default=parent.entry)
    values = {"parent": parent.entry.key, "time": now(), "workspace": str(workspace)}
    RunLog(workspace, last).add("views", **values)


def _log_results(settings: Settings, workspace: Path) -> None:
    log = experiment.parent_log(settings, workspace)
    children = link_models(settings, workspace)
    folder = workspace / "artifacts" / "evaluation"
    log.add_copy("artifacts", folder, folder="evaluation")
    per_user = folder / "per_user.parquet"
    if per_user.is_file():
        _log_ranks(settings, workspace, children, per_user, log)
    with state.edit(workspace) as current:
        current.evaluated = True


def link_models(settings: Settings, workspace: Path) -> dict[Child, RunLog]:
    """Give every configured model and seed that exists on disk a child of the open parent.

    Returns:
        The journal of each child, by model and seed.
    """
    stages = identity.read_lock(workspace)
    logs: dict[Child, RunLog] = {}
    for model in settings.experiment.models:
        for seed in settings.experiment.seeds:
            folder = identity.model_folder(workspace, model, seed)
            mark = identity.fingerprint(folder)
            if not mark:
                continue
            log = _find_or_link(settings, workspace, (model, seed), mark)
            tags = {"assay.fingerprint": mark}
            found = identity.stage_of(stages, workspace, model, seed)
            if found:
                tags |= {"dvc.stage": found[0], "assay.stage_hash": found[1]}
            log.add_tags(tags)
            if log.entry.status == "LINKED":
                log.add(
                    "link",
                    folder=str(folder),
                    name=model,
                    fingerprint=mark,
                    stage_hash=tags.get("assay.stage_hash", ""),
                )
            logs[model, seed] = log
    return logs


def _find_or_link(settings: Settings, workspace: Path, child: Child, mark: str) -> RunLog:
    name = state.child_name(*child)
    with state.edit(workspace) as current:
        found = current.children.get(name)
        if found is not None and found.status in state.DONE:
            return RunLog(workspace, found)
        tags = {"assay.reused_from": "files", "assay.fingerprint": mark}
        entry = experiment.open_run(settings, workspace, current, *child, tags)
        entry.status = "LINKED"
    run = ModelRun(RunLog(workspace, entry), *child)
    run.log_files(identity.model_folder(workspace, *child))
    run.log.end("FINISHED")
    return run.log


def _log_ranks(
    settings: Settings, workspace: Path, logs: dict[Child, RunLog], path: Path, parent: RunLog
) -> None:
    """Log each model's own metrics and ranks, the parent's overview, and the candidate."""
    import polars as pl

    ranks = pl.read_parquet(path)
    means: dict[Child, dict[str, float]] = {}
    for (model, seed), log in logs.items():
        own = ranks.filter((pl.col("model") == model) & (pl.col("seed") == seed))
        if own.is_empty():
            continue
        means[model, seed] = _mean_metrics(own, settings.evaluate.cutoffs)
        log.add_metrics(_glance(means[model, seed]) | means[model, seed], 0)
        _log_table(log, own)
    best = max(means, key=lambda child: _selection(means[child]), default=None)
    if best is None:
        return
    parent.add_metrics(_glance(means[best]) | _overview(means), 0)
    parent.add_tags({"assay.best_model": best[0]})
    if settings.tracking.register_champion:
        candidate = logs[best]
        candidate.add(
            "promote",
            registry=champion.registry_name(settings.experiment.name),
            model=best[0],
            fingerprint=identity.fingerprint(identity.model_folder(workspace, *best)),
            level=settings.evaluate.significance,
            workspace=str(workspace),
        )


def _mean_metrics(ranks: pl.DataFrame, cutoffs: tuple[int, ...]) -> dict[str, float]:
    """Means over users: all of the test split; of anything else only those at 10.

    Validation is named ``val_best``: the chosen weights, beside the curve ``val`` of all epochs.
    """
    from tasks.evaluation.metrics import mean_metrics

    wanted = {
        ("test", "rank"): ("test", cutoffs),
        ("test", "rank_seen_filtered"): ("test_seen_filtered", (10,)),
        ("val", "rank"): ("val_best", (10,)),
    }
    values: dict[str, float] = {}
    for (split, column), (group, chosen) in wanted.items():
        part = ranks.filter(ranks["split"] == split)
        if column in part.columns and not part.is_empty():
            means = mean_metrics(part[column].to_numpy(), chosen)
            values |= {f"{group}/{name}": value for name, value in means.items()}
    return values


def _selection(means: dict[str, float]) -> float:
    """What the candidate is chosen by: validation, as choosing on test would flatter it."""
    return means.get(f"val_best/{SELECTION_METRIC}", means.get(f"test/{SELECTION_METRIC}", 0.0))


def _glance(means: dict[str, float]) -> dict[str, float]:
    """The result in the group of metrics that opens first."""
    name = f"test/{SELECTION_METRIC}"
    return {f"{GLANCE}/test_{SELECTION_METRIC}": means[name]} if name in means else {}


def _overview(means: dict[Child, dict[str, float]]) -> dict[str, float]:
    """Test NDCG@10 of each model, mean over its seeds."""
    by_model: dict[str, list[float]] = {}
    for (model, _), values in means.items():
        if f"test/{SELECTION_METRIC}" in values:
            by_model.setdefault(model, []).append(values[f"test/{SELECTION_METRIC}"])
    return {
        f"test_{SELECTION_METRIC}/{model}": sum(values) / len(values)
        for model, values in by_model.items()
    }


def _log_table(log: RunLog, table: pl.DataFrame) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / RANKS_FILE
        table.write_parquet(path)
        log.add_copy("artifacts", path, folder="evaluation")
