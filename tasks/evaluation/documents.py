"""What comparison.json holds: tables, tests, and in words how they were made."""

from __future__ import annotations

from typing import Any

from tasks.evaluation.comparison import ComparisonTable, PairRow
from tasks.evaluation.resampling import NUM_SIGN_FLIPS
from tasks.evaluation.results import View

METHOD = (
    "Full ranking of the catalogue, ties ranked worst. Intervals: 95 % percentile bootstrap over "
    "users, and over seeds where several were run. Tests: two-sided paired sign-flip permutation "
    "on per-user values averaged over seeds, Holm-corrected over all pairs of one table and "
    "metric. A difference is significant when the corrected p is below the level and its interval "
    "excludes zero."
)


def comparison_document(
    tables: dict[View, ComparisonTable],
    *,
    headline_is_seen_filtered: bool,
    bootstrap_samples: int,
    significance: float,
    seed: int,
    best_possible: dict[str, float] | None,
) -> dict[str, Any]:
    """Return the content of comparison.json.

    Args:
        tables: comparison of each view, on test.
        headline_is_seen_filtered: whether the view "as_ranked" leaves out seen items.
        bootstrap_samples: resamples behind each interval.
        significance: level of the tests.
        seed: seed of the resampling.
        best_possible: metrics of the Bayes-optimal recommender, for generated data only.
    """
    return {
        "method": METHOD,
        "bootstrap_samples": bootstrap_samples,
        "sign_flips": NUM_SIGN_FLIPS,
        "smallest_p_value": 1.0 / (1 + NUM_SIGN_FLIPS),
        "significance": significance,
        "seed": seed,
        "best_possible": best_possible,
        "tables": [
            {
                "split": "test",
                "ranking": view,
                "seen_filtered": headline_is_seen_filtered or view == "seen_filtered",
                **table.as_dict(),
                "sentences": [pair_sentence(pair) for pair in table.pairs],
            }
            for view, table in tables.items()
        ],
    }


def pair_sentence(pair: PairRow) -> str:
    """Return a tested difference in words.

    Example:
        >>> pair = PairRow("ndcg_at_10", "gru", "lstm", 0.02, 0.01, 0.03, 0.001, 0.003, True)
        >>> pair_sentence(pair)
        'gru beats lstm on ndcg_at_10 by 0.0200 [0.0100, 0.0300], p = 0.003: significant'
    """
    verdict = "significant" if pair.is_significant else "not significant"
    verb = "beats" if pair.is_significant else "is ahead of"
    return (
        f"{pair.better} {verb} {pair.worse} on {pair.metric} by {pair.difference:.4f} "
        f"[{pair.low:.4f}, {pair.high:.4f}], p = {pair.p_holm:.2g}: {verdict}"
    )
