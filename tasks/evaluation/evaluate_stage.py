"""The stage `evaluate`: every trained model, ranked on val and test, compared and tested."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from tasks import tracking
from tasks.baselines.contract import Recommender
from tasks.data.bayes_recommender import BayesRecommender, bayes_optimal
from tasks.data.integrity import verify_trained
from tasks.data.prepared import EvaluationSplit, PreparedData
from tasks.data.storage import replaced_folder
from tasks.evaluation.comparison import ComparisonTable, compare
from tasks.evaluation.curves import CURVE_COLUMNS, curve_rows
from tasks.evaluation.documents import comparison_document
from tasks.evaluation.evaluate import RankedSplit, rank_split
from tasks.evaluation.groups import HISTORY_LENGTH_EDGES, ITEM_POPULARITY_EDGES
from tasks.evaluation.results import (
    LIST_LENGTH,
    Examples,
    ModelRanks,
    View,
    check_cutoffs,
    group_rows,
    mean_metrics_by_model,
    per_user_columns,
    stack_seeds,
    summary_rows,
)
from tasks.progress import Progress
from tasks.settings import Settings
from tasks.training.assemble import resolve_device
from tasks.training.memory import named_out_of_memory
from tasks.training.models import NeuralRecommender, load_recommender

logger = logging.getLogger(__name__)


def run(settings: Settings, workspace: Path) -> dict[str, Any]:
    """Evaluate all models of `experiment.models` with all seeds of `experiment.seeds`.

    Reads data/prepared and artifacts/models, writes artifacts/evaluation. On the synthetic source
    it also measures what the best possible model would reach.

    Args:
        settings: all settings; `evaluate`, `train.shared.max_seq_len` and `train.shared.device` are
            used here.
        workspace: folder of the experiment.

    Returns:
        The best model on test by NDCG@10, that value, and how many models it beats significantly.

    Raises:
        ValueError: a model was trained on other data, or the cut-offs do not fit the catalogue.
        FileNotFoundError: a model's folder is missing.
    """
    data = PreparedData.load(workspace / "data" / "prepared", verify=True)
    for split in (data.val, data.test):
        check_cutoffs(settings.evaluate.cutoffs, split.targets, data.num_items)
    results = _rank_models(settings, workspace, data)
    views: tuple[View, ...] = ("as_ranked",)
    if settings.evaluate.filter_seen == "both":
        views = ("as_ranked", "seen_filtered")
    tables = {view: _compare(settings, results, view) for view in views}
    best_possible = _best_possible(settings, workspace, data)
    with replaced_folder(workspace / "artifacts" / "evaluation") as folder:
        if best_possible is not None:
            _write_json(folder / "bayes.json", best_possible)
        _write_tables(settings, data, results, tables, best_possible, folder)
        _write_curves(settings, workspace, folder / "curves.csv")
    tracking.log_evaluation(settings, workspace)
    best = tables["as_ranked"].rows[0]
    beaten = [
        pair
        for pair in tables["as_ranked"].pairs
        if (pair.better, pair.metric, pair.is_significant) == (best.model, "ndcg_at_10", True)
    ]
    return {
        "best_model": best.model,
        "test/ndcg_at_10": best.metrics["ndcg_at_10"].mean,
        "models_beaten_significantly": len(beaten),
    }


def _rank_models(settings: Settings, workspace: Path, data: PreparedData) -> list[ModelRanks]:
    """Rank both splits with every model and seed; one model is in memory at a time."""
    results: list[ModelRanks] = []
    progress = Progress("evaluate")
    device = resolve_device(settings.train.shared.device)
    trainings = len(settings.experiment.models) * len(settings.experiment.seeds)
    for model in settings.experiment.models:
        for seed in settings.experiment.seeds:
            recommender = _load(workspace, model, seed, data)
            if isinstance(recommender, NeuralRecommender):
                recommender.model.to(device)
            for split in (data.val, data.test):
                ranked = _rank(settings, recommender, data, split, device)
                results.append(ModelRanks(model, seed, split.name, ranked))
            progress.at(len(results) / (2 * trainings))
            logger.info("evaluated %s, seed %d", model, seed)
    return results


def _rank(
    settings: Settings,
    recommender: Recommender,
    data: PreparedData,
    split: EvaluationSplit,
    device: torch.device,
) -> RankedSplit:
    with named_out_of_memory({"evaluate.batch_size": settings.evaluate.batch_size}):
        return rank_split(
            recommender.score,
            data,
            split,
            max_len=settings.train.shared.max_seq_len,
            batch_size=settings.evaluate.batch_size,
            filter_seen=settings.evaluate.filter_seen,
            top_k=LIST_LENGTH,
            device=device,
        )


def _load(workspace: Path, model: str, seed: int, data: PreparedData) -> Recommender:
    """Load one trained model and check that it belongs to the prepared data."""
    folder = workspace / "artifacts" / "models" / model / f"seed_{seed}"
    again = f"python -m tasks train --model {model} --seed {seed}"
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist. Run: {again}")
    record_path = folder / "record.json"
    if record_path.is_file():
        record = _read_record(record_path, again)
        trained_on = record.get("data_hash")
        prepared = data.manifest["data_hash"]
        if trained_on != prepared:
            raise ValueError(
                f"{model} with seed {seed} was trained on data {str(trained_on)[:12]}; the "
                f"prepared data are {prepared[:12]}. Train it on these: {again}"
            )
        verify_trained(folder, record.get("sha256", {}), again)
    return load_recommender(folder)


def _read_record(path: Path, again: str) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return dict(record)
    except (ValueError, TypeError):
        raise ValueError(f"{path} is damaged. Train the model again: {again}") from None


def _compare(settings: Settings, results: list[ModelRanks], view: View) -> ComparisonTable:
    return compare(
        stack_seeds(results, "test", view),
        cutoffs=settings.evaluate.cutoffs,
        num_samples=settings.evaluate.bootstrap_samples,
        significance=settings.evaluate.significance,
        seed=settings.evaluate.seed,
    )


def _best_possible(
    settings: Settings, workspace: Path, data: PreparedData
) -> dict[str, float] | None:
    """Return `<split>/<metric>` of the Bayes-optimal model, unfiltered; None for real data."""
    if settings.data.source != "synthetic":
        return None
    observer = BayesRecommender.from_folders(workspace / "data" / "raw", data.folder)
    return {
        f"{split.name}/{name}": value
        for split in (data.val, data.test)
        for name, value in bayes_optimal(
            observer, data, split, ks=settings.evaluate.cutoffs
        ).items()
    }


def _examples(data: PreparedData, split: EvaluationSplit) -> Examples:
    counts = data.item_counts[np.maximum(split.targets, 0)]  # a cold target reads entry 0, a 0
    return Examples(
        users=np.array(split.users),
        target_times=np.array(split.target_times),
        history_lengths=data.train.lengths[split.users] + split.extra.lengths,
        target_counts=counts,
    )


def _write_tables(
    settings: Settings,
    data: PreparedData,
    results: list[ModelRanks],
    tables: dict[View, ComparisonTable],
    best_possible: dict[str, float] | None,
    folder: Path,
) -> None:
    """Write everything but the curves."""
    views = tuple(tables)
    examples = {split.name: _examples(data, split) for split in (data.val, data.test)}
    # Through memory: Polars says of a full disk no more than that something failed to compute.
    buffer = io.BytesIO()
    pl.DataFrame(per_user_columns(results, examples)).write_parquet(buffer)
    (folder / "per_user.parquet").write_bytes(buffer.getvalue())
    means = mean_metrics_by_model(results, views, settings.evaluate.cutoffs, data.item_counts)
    _write_json(folder / "metrics.json", means)
    document = comparison_document(
        tables,
        headline_is_seen_filtered=settings.evaluate.filter_seen == "yes",
        bootstrap_samples=settings.evaluate.bootstrap_samples,
        significance=settings.evaluate.significance,
        seed=settings.evaluate.seed,
        best_possible=best_possible,
    )
    _write_json(folder / "comparison.json", document)
    pl.DataFrame(summary_rows(tables["as_ranked"], means)).write_csv(folder / "summary.csv")
    about = examples["test"]
    by_length = group_rows(results, "test", views, about.history_lengths, HISTORY_LENGTH_EDGES)
    pl.DataFrame(by_length).write_csv(folder / "by_history_length.csv")
    by_popularity = group_rows(results, "test", views, about.target_counts, ITEM_POPULARITY_EDGES)
    pl.DataFrame(by_popularity).write_csv(folder / "by_item_popularity.csv")


def _write_curves(settings: Settings, workspace: Path, path: Path) -> None:
    """Write the epochs of every model that recorded any; a header alone where none did."""
    rows = []
    for model in settings.experiment.models:
        for seed in settings.experiment.seeds:
            epochs = workspace / "artifacts" / "models" / model / f"seed_{seed}" / "epochs.jsonl"
            if epochs.is_file():
                rows += curve_rows(model, seed, epochs.read_text(encoding="utf-8"))
    columns = {name: [row[name] for row in rows] for name in CURVE_COLUMNS}
    pl.DataFrame(columns).write_csv(path)


def _write_json(path: Path, content: Any) -> None:
    text = json.dumps(content, indent=2, sort_keys=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
