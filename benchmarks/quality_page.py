"""The text of ``docs/results.md``: kept runs beside published rows."""

from __future__ import annotations

from typing import Any

from benchmarks.quality_logs import LOGS, SYNTHETIC, Log
from benchmarks.quality_long import long_section
from benchmarks.quality_words import conclusions

Run = dict[str, Any]

HEAD = """# Results

Made by `python -m benchmarks.quality write` from finished runs of the presets in `params/`. Every
number is a mean over the seeds and test users of a run, full ranking of the catalogue, ties ranked
worst, nothing filtered unless the column says so. Intervals are 95 % bootstraps over users and
seeds; ± is the standard deviation of the seeds' means. Settings were chosen on validation only,
with the same number of Optuna trials for every neural model (`assay tune`); the test set was ranked
once, with the settings chosen, unless a note below says otherwise. Tests are paired per user and
Holm-corrected within a table.

To see the same: `assay run --params params/NAME.yaml --name NAME`, with `--data FILE` where a log
is not fetched by name; `python -m benchmarks.quality confirm NAME` runs it where needed and says
whether its results are within the intervals here. For `movielens-1m` and `movielens-20m`, fetched
from GroupLens and not run for this page, it expects NDCG@10 between .16 and .24 of GRU, SASRec and
xLSTM: from the lowest published row of GRU4Rec or SASRec to a tenth above the highest row found.
"""


def page(runs: dict[str, Run], costs: dict[str, Any] | None = None) -> str:
    """Return the page as Markdown.

    Args:
        runs: Kept runs by preset; logs without a run are left out.
        costs: What long windows cost, from `benchmarks.history_cost`.
    """
    shown = [log for log in LOGS if log.preset in runs]
    parts = [HEAD]
    if shown:
        names = [(log.title, log.preset, log.temporal) for log in shown]
        parts.append(conclusions(names, runs))
    parts += [section(log, runs) for log in shown]
    if any(name in runs for name, _ in SYNTHETIC):
        parts.append(synthetic_section(runs))
    parts += filter(None, [long_section(runs, costs or {})])
    return "\n".join(parts)


def section(log: Log, runs: dict[str, Run]) -> str:
    """One log: its table, targets, published rows, and what the tests say of the xLSTM."""
    run, temporal = runs[log.preset], runs.get(log.temporal)
    counts = run["counts"]
    lines = [
        f"## {log.title}",
        "",
        f"{counts['users']:,} users, {counts['items']:,} items, {counts['train_events']:,} "
        f"training events; {len(run['seeds'])} seeds; preset `params/{log.preset}.yaml`. "
        f"{log.note}",
        "",
        *table(run, temporal),
        "",
        *[verdict(run, model, target) for model, target in log.targets],
        *([peer_verdict(run)] if log.aims_at_peers else []),
        *sentences(run),
    ]
    if temporal:
        users = next(iter(_rows(temporal).values()))["num_users"]
        lines.append(
            f"- Global temporal split (`params/{log.temporal}.yaml`): {users:,} test users, "
            f"{len(temporal['seeds'])} seeds, tuned settings of the leave-one-out preset."
        )
        lines += [f"  {line}" for line in sentences(temporal)]
    if run.get("beside_order"):
        lines += ["", *gains_of_times(run["beside_order"])]
    if log.without_bias in runs:
        lines += ["", *without_bias(log.without_bias, runs[log.without_bias])]
    if log.published:
        lines += ["", "| Published | HR@10 | NDCG@10 |", "|---|---|---|"]
        lines += [f"| {source} | {hits} | {gain} |" for source, hits, gain in log.published]
    return "\n".join([*lines, ""])


def gains_of_times(pairs: list[dict[str, Any]]) -> list[str]:
    """What each model gains from times, by paired tests against itself without them."""
    lines = ["Each model beside itself without times, trained again for these tests:", ""]
    for pair in pairs:
        (model, _), (other, _) = (pair[side].split(", ") for side in ("better", "worse"))
        if model != other:
            continue
        numbers = {pair[side]: side for side in ("better", "worse")}
        with_times, without = (
            numbers[f"{model}, {words}"] for words in ("with times", "order alone")
        )
        lines.append(
            difference(pair, f"{model}, with times").removesuffix(".")
            + f" ({number(pair[f'{with_times}_mean'])} of {pair[f'{with_times}_seeds']} seeds, "
            f"{number(pair[f'{without}_mean'])} of {pair[f'{without}_seeds']})."
        )
    return lines


def without_bias(preset: str, run: Run) -> list[str]:
    """Rows of the same models without the learned bias on items of the history."""
    filtered = run["tables"]["seen_filtered"]["rows"]
    seeds = len(run["seeds"])
    lines = [
        f"Without the learned bias on items of the history (`params/{preset}.yaml`, "
        f"{seeds} seed{'s' if seeds > 1 else ''}):",
        "",
        "| Model | NDCG@10 | HR@10 | NDCG@10, seen left out | HR@10, seen left out |",
        "|---|---|---|---|---|",
    ]
    for model, row in _rows(run).items():
        cells = [_spread(row, "ndcg_at_10"), _value(row, "hit_rate_at_10")]
        cells += [_spread(filtered[model], "ndcg_at_10"), _value(filtered[model], "hit_rate_at_10")]
        lines.append(f"| `{model}` | {' | '.join(cells)} |")
    return [*lines, "", *sentences(run)]


def table(run: Run, temporal: Run | None) -> list[str]:
    """Rows of models, best first."""
    head = ["Model", "NDCG@10", "HR@10", "NDCG@10, seen left out"]
    head += ["NDCG@10, temporal split"] if temporal else []
    head += ["parameters", "seconds to train"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    filtered = run["tables"].get("seen_filtered", {}).get("rows", {})
    for model, row in _rows(run).items():
        cells = [f"`{model}`", _spread(row, "ndcg_at_10"), _value(row, "hit_rate_at_10")]
        cells.append(_value(filtered[model], "ndcg_at_10") if model in filtered else "–")
        if temporal:
            other = _rows(temporal).get(model)
            cells.append(_spread(other, "ndcg_at_10") if other else "–")
        training = run["trainings"][model]
        parameters = training["parameters"]
        cells += [f"{parameters:,}" if parameters else "–"]
        cells += [f"{training['seconds']:,.0f} ({training['device']})"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def verdict(run: Run, model: str, target: float) -> str:
    """Whether a model reached a target, with its interval."""
    estimate = _rows(run)[model]["metrics"]["ndcg_at_10"]
    value, low, high = estimate["mean"], estimate["low"], estimate["high"]
    if value >= target:
        word = "reached"
    else:
        word = "missed within the interval" if high >= target else "missed"
    found = f"{number(value)} [{number(low)}, {number(high)}]"
    return f"- Target {number(target)} for `{model}`: {word} ({found})."


def peer_verdict(run: Run, model: str = "xlstm") -> str:
    """Whether a model is at or above the best other one, by the interval of the difference."""
    best = next(other for other in _rows(run) if other != model)
    [pair] = [
        p for p in run["tables"]["as_ranked"]["pairs"] if {p["better"], p["worse"]} == {best, model}
    ]
    low = (
        min(pair["low"], pair["high"])
        if pair["better"] == model
        else -max(pair["low"], pair["high"])
    )
    word = "reached" if low >= 0 else "missed"
    aim = f"at or above the best peer (`{best}`) with an interval that excludes a loss"
    return f"- Aim, {aim}: {word}."


def difference(pair: dict[str, Any], model: str) -> str:
    """One paired test as a line: how far a model is ahead of the other one of the pair."""
    (other,) = {pair["better"], pair["worse"]} - {model}
    sign = 1 if pair["better"] == model else -1
    ends = sorted((sign * pair["low"], sign * pair["high"]))
    word = "significant" if pair["is_significant"] else "not significant"
    return (
        f"- `{model}` minus `{other}`: {sign * pair['difference']:+.4f} "
        f"[{ends[0]:+.4f}, {ends[1]:+.4f}], p = {pair['p_holm']:.2g}: {word}."
    )


def sentences(run: Run, model: str = "xlstm") -> list[str]:
    """How a model compares with every other neural model on the same users."""
    lines = []
    for pair in run["tables"]["as_ranked"]["pairs"]:
        others = {pair["better"], pair["worse"]} - {model}
        if len(others) != 1 or not others <= {"gru", "lstm", "sasrec"}:
            continue
        lines.append(difference(pair, model))
    return lines


def synthetic_section(runs: dict[str, Run]) -> str:
    """Which model captures which dependency, as a share of the best possible NDCG@10."""
    shown = [(name, title) for name, title in SYNTHETIC if name in runs]
    models = list(dict.fromkeys(model for name, _ in shown for model in runs[name]["trainings"]))
    lines = [
        "## What each model can learn: logs whose best possible score is known",
        "",
        "Test NDCG@10 as a share of the Bayes-optimal recommender's on the same users; every log "
        "holds one kind of dependency with weight .9 and popularity with .1 (the first popularity "
        "alone).",
        "",
        "| Next item depends on | " + " | ".join(title for _, title in shown) + " |",
        "|---|" + "---|" * len(shown),
    ]
    best = [runs[name]["best_possible"]["test/ndcg_at_10"] for name, _ in shown]
    lines.append("| best possible NDCG@10 | " + " | ".join(map(number, best)) + " |")
    for model in models:
        cells = []
        for (name, _), ceiling in zip(shown, best, strict=True):
            row = _rows(runs[name]).get(model)
            cells.append(f"{row['metrics']['ndcg_at_10']['mean'] / ceiling:.3f}" if row else "–")
        lines.append(f"| `{model}` | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def number(value: float) -> str:
    """Four decimals without a leading zero.

    >>> number(0.1215)
    '.1215'
    """
    return f"{value:.4f}".removeprefix("0")


def _rows(run: Run) -> dict[str, Run]:
    rows = run["tables"]["as_ranked"]["rows"]
    return dict(sorted(rows.items(), key=lambda item: -item[1]["metrics"]["ndcg_at_10"]["mean"]))


def _value(row: Run, metric: str) -> str:
    return number(row["metrics"][metric]["mean"])


def _spread(row: Run, metric: str) -> str:
    estimate = row["metrics"][metric]
    text = f"{number(estimate['mean'])} [{number(estimate['low'])}, {number(estimate['high'])}]"
    deviation = estimate["seed_deviation"]
    return f"{text} ± {number(deviation)}" if deviation else text
