"""From the ranks of every model and seed to the tables the stage writes. No files here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tasks.evaluation.comparison import ComparisonTable, Estimate
from tasks.evaluation.evaluate import RankedSplit
from tasks.evaluation.groups import group_labels, group_of, means_by_group
from tasks.evaluation.lists import coverage, mean_popularity, mean_popularity_percentile
from tasks.evaluation.metrics import hit_rate, metric_name, mrr, ndcg, per_user_metrics

LIST_LENGTH = 10
"""K of the recommended lists that coverage and popularity bias are measured on."""

SplitName = Literal["val", "test"]

View = Literal["as_ranked", "seen_filtered"]
"""The first ranking of a split, or the second one that leaves out seen items."""


@dataclass(frozen=True)
class Examples:
    """Who is evaluated on one split.

    Attributes:
        users: int64 (E,), index of the training sequence.
        target_times: int64 (E,), microseconds since the epoch.
        history_lengths: int64 (E,), events before the target, not cut.
        target_counts: int64 (E,), training events of the target; 0 for a cold item.
    """

    users: np.ndarray
    target_times: np.ndarray
    history_lengths: np.ndarray
    target_counts: np.ndarray


@dataclass(frozen=True)
class ModelRanks:
    """One model with one seed on one split."""

    model: str
    seed: int
    split: SplitName
    ranked: RankedSplit

    def view(self, view: View) -> tuple[np.ndarray, np.ndarray | None]:
        """Return ranks (E,) and top lists (E, K) of one view.

        Raises:
            ValueError: no ranking without seen items was made.
        """
        if view == "as_ranked":
            return self.ranked.ranks, self.ranked.top_items
        if self.ranked.seen_filtered_ranks is None:
            raise ValueError("no second ranking was made; rank with filter_seen='both'.")
        return self.ranked.seen_filtered_ranks, self.ranked.seen_filtered_top_items


def stack_seeds(results: Sequence[ModelRanks], split: str, view: View) -> dict[str, np.ndarray]:
    """Return model -> ranks int64 (S, E) of one split and view, in the order of `results`."""
    rows: dict[str, list[np.ndarray]] = {}
    for result in results:
        if result.split == split:
            rows.setdefault(result.model, []).append(result.view(view)[0])
    return {model: np.stack(ranks) for model, ranks in rows.items()}


def mean_metrics_by_model(
    results: Sequence[ModelRanks],
    views: Sequence[View],
    cutoffs: Sequence[int],
    item_counts: np.ndarray,
) -> dict[str, dict[str, float]]:
    """Return model -> metric -> mean over users and seeds.

    Metrics are named `<split>/<metric>_at_<K>`, those of the second view
    `<split>_seen_filtered/...`; coverage and, where any item is left to recommend, popularity bias
    come at K = `LIST_LENGTH`.
    """
    collected: dict[str, dict[str, list[float]]] = {}
    for result in results:
        metrics = collected.setdefault(result.model, {})
        for view in views:
            prefix = result.split if view == "as_ranked" else f"{result.split}_seen_filtered"
            ranks, lists = result.view(view)
            for name, values in per_user_metrics(ranks, cutoffs).items():
                metrics.setdefault(f"{prefix}/{name}", []).append(float(values.mean()))
            if lists is not None:
                for name, value in _list_metrics(lists, item_counts).items():
                    metrics.setdefault(f"{prefix}/{name}", []).append(value)
    return {
        model: {name: float(np.mean(values)) for name, values in metrics.items()}
        for model, metrics in collected.items()
    }


def group_rows(
    results: Sequence[ModelRanks],
    split: str,
    views: Sequence[View],
    group_values: np.ndarray,
    edges: Sequence[int],
) -> list[dict[str, Any]]:
    """Return one row per model, view and group of users: means over seeds of metrics at 10.

    Args:
        results: all models and seeds.
        split: split to read.
        views: rankings to read.
        group_values: int64 (E,), what the groups are made by.
        edges: lower ends of the groups.
    """
    groups, labels = group_of(group_values, edges), group_labels(edges)
    rows = []
    for view in views:
        for model, ranks in stack_seeds(results, split, view).items():
            values = {
                metric_name(metric, 10): metric(ranks, 10).mean(axis=0)
                for metric in (hit_rate, ndcg, mrr)
            }
            rows += [
                {"model": model, "split": split, "ranking": view, **row}
                for row in means_by_group(values, groups, labels)
            ]
    return rows


def per_user_columns(
    results: Sequence[ModelRanks], examples: Mapping[SplitName, Examples]
) -> dict[str, np.ndarray]:
    """Return the columns of per_user.parquet: one row per model, seed, split and user."""
    parts: dict[str, list[np.ndarray]] = {}
    for result in results:
        about = examples[result.split]
        size = len(about.users)
        columns = {
            "model": np.full(size, result.model),
            "seed": np.full(size, result.seed, np.int64),
            "split": np.full(size, result.split),
            "user": about.users,
            "rank": result.ranked.ranks,
            "history_length": about.history_lengths,
            "target_count": about.target_counts,
            "target_time": about.target_times,
        }
        if result.ranked.seen_filtered_ranks is not None:
            columns["rank_seen_filtered"] = result.ranked.seen_filtered_ranks
        for name, column in columns.items():
            parts.setdefault(name, []).append(column)
    return {name: np.concatenate(columns) for name, columns in parts.items()}


def summary_rows(
    table: ComparisonTable, means: dict[str, dict[str, float]]
) -> list[dict[str, Any]]:
    """Return one row per model, best first: headline metrics, intervals, what it beats."""
    rows = []
    for row in table.rows:
        beaten = [
            pair.worse
            for pair in table.pairs
            if pair.better == row.model and pair.metric == "ndcg_at_10" and pair.is_significant
        ]
        line: dict[str, Any] = {"model": row.model, "seeds": row.num_seeds, "users": row.num_users}
        for name in ("ndcg_at_10", "hit_rate_at_10", "mrr_at_10"):
            line |= _with_interval(name, row.metrics[name])
        for name in ("ndcg_at_10", "hit_rate_at_10"):
            if (second := f"test_seen_filtered/{name}") in means[row.model]:
                line[f"seen_filtered_{name}"] = means[row.model][second]
        for name in _LIST_METRICS:
            if (of_lists := f"test/{name}") in means[row.model]:
                line[name] = means[row.model][of_lists]
        rows.append({**line, "significantly_beats": " ".join(beaten)})
    return rows


def check_cutoffs(cutoffs: Sequence[int], targets: np.ndarray, num_items: int) -> None:
    """Refuse a K at which a cold target, ranked behind every real item, would count as a hit.

    Raises:
        ValueError: a cut-off above num_items while a target is outside the vocabulary.
    """
    if max(cutoffs) > num_items and bool((targets < 0).any()):
        raise ValueError(
            f"evaluate.cutoffs holds {max(cutoffs)}, but the catalogue has {num_items} items and "
            "some targets are outside it: they would count as hits. Lower evaluate.cutoffs."
        )


def _list_metrics(lists: np.ndarray, item_counts: np.ndarray) -> dict[str, float]:
    """Return coverage and popularity bias of top lists (E, LIST_LENGTH).

    Where every user has seen every item and seen ones are left out, no list holds an item, and
    none of them has a popularity.
    """
    if not lists.any():
        return {_LIST_METRICS[0]: 0.0}
    measured = (
        coverage(lists, len(item_counts) - 1),
        mean_popularity(lists, item_counts),
        mean_popularity_percentile(lists, item_counts),
    )
    return dict(zip(_LIST_METRICS, measured, strict=True))


_LIST_METRICS = tuple(
    f"{name}_at_{LIST_LENGTH}" for name in ("coverage", "popularity", "popularity_percentile")
)


def _with_interval(name: str, estimate: Estimate) -> dict[str, float]:
    """Return a metric and the ends of its interval as three columns."""
    return {name: estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
