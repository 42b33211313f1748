"""What a preset's run should find, so that anyone with the log can confirm it in one command."""

from __future__ import annotations

from typing import Any

Run = dict[str, Any]
Range = tuple[float, float]

EXPECTED: dict[str, dict[str, Range]] = {
    "movielens-1m": {"gru": (0.16, 0.24), "sasrec": (0.16, 0.24), "xlstm": (0.16, 0.24)},
    "movielens-20m": {"gru": (0.16, 0.24), "sasrec": (0.16, 0.24), "xlstm": (0.16, 0.24)},
}
"""Test NDCG@10 of presets that were not run for the page. The lower end is the lowest published
row of GRU4Rec or SASRec in a full ranking (.160, MovieLens-1M), the upper one a tenth above the
highest row found (HSTU-large, .216 and .212)."""


def expected_ranges(name: str, kept: dict[str, Run]) -> dict[str, Range]:
    """Ranges of a preset: the intervals of its kept run, else those of `EXPECTED`.

    Raises:
        ValueError: nothing is known of the preset.
    """
    if kept.get(name, {}).get("tables"):
        rows = kept[name]["tables"]["as_ranked"]["rows"]
        estimates = {model: row["metrics"]["ndcg_at_10"] for model, row in rows.items()}
        return {model: (found["low"], found["high"]) for model, found in estimates.items()}
    if name not in EXPECTED:
        known = ", ".join(sorted({*EXPECTED, *kept}))
        raise ValueError(f"nothing is expected of {name!r}; expected one of {known}.")
    return EXPECTED[name]


def compare_with_expected(run: Run, ranges: dict[str, Range]) -> tuple[list[str], bool]:
    """A line per model, and whether all are within their ranges.

    >>> row = {"metrics": {"ndcg_at_10": {"mean": 0.2}}}
    >>> run = {"tables": {"as_ranked": {"rows": {"gru": row}}}}
    >>> compare_with_expected(run, {"gru": (0.16, 0.19)})
    (['gru: test NDCG@10 0.2000, expected 0.1600 to 0.1900: outside'], False)
    """
    lines, all_within = [], True
    for model, (low, high) in ranges.items():
        row = run["tables"]["as_ranked"]["rows"].get(model)
        if row is None:
            lines.append(f"{model}: not in the run")
            all_within = False
            continue
        value = row["metrics"]["ndcg_at_10"]["mean"]
        is_within = low <= value <= high
        all_within = all_within and is_within
        word = "confirmed" if is_within else "outside"
        lines.append(f"{model}: test NDCG@10 {value:.4f}, expected {low:.4f} to {high:.4f}: {word}")
    return lines, all_within
