"""The text of ``docs/results.md``: kept runs beside published rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.quality_words import conclusions

Run = dict[str, Any]

HEAD = """# Results

Made by `python -m benchmarks.quality write` from finished runs of the presets in `params/`. Every
number is a mean over the seeds and test users of a run, full ranking of the catalogue, ties ranked
worst, nothing filtered unless the column says so. Intervals are 95 % bootstraps over users and
seeds; ± is the standard deviation of the seeds' means. Settings were chosen on validation only,
with the same number of Optuna trials for every neural model (`assay tune`); the test set was ranked
once, with the settings chosen. Tests are paired per user and Holm-corrected within a table.

To see the same: `assay run --params params/NAME.yaml --name NAME`, with `--data FILE` where a log
is not fetched by name; `python -m benchmarks.quality confirm NAME` runs it where needed and says
whether its results are within the intervals here. For `movielens-1m` and `movielens-20m`, fetched
from GroupLens and not run for this page, it expects NDCG@10 between .16 and .24 of GRU, SASRec and
xLSTM: from the lowest published row of GRU4Rec or SASRec to a tenth above the highest row found.
"""


@dataclass(frozen=True)
class Log:
    """A log with its presets, and what is published about it.

    Attributes:
        title: Heading.
        preset: Leave-one-out preset.
        temporal: Preset with the global temporal split; '' where there is none.
        targets: NDCG@10 to reach, by model.
        published: Rows of others: source, HR@10, NDCG@10.
        note: What a reader has to know about the log.
    """

    title: str
    preset: str
    temporal: str = ""
    targets: tuple[tuple[str, float], ...] = ()
    published: tuple[tuple[str, str, str], ...] = ()
    note: str = ""
    aims_at_peers: bool = False
    """Whether the xLSTM is to be at or above the best other model, by its interval."""


LOGS = (
    Log(
        "MovieLens-100K",
        "movielens-100k",
        "movielens-100k-temporal",
        (("xlstm", 0.085), ("gru", 0.078)),
        note=(
            "With 943 test users the standard error of NDCG@10 is about .006. For 44 % of the "
            "users the last two events have the same time: the test item rests on the rows' order."
        ),
    ),
    Log(
        "MovieTweetings (100K snapshot, 5-core)",
        "movietweetings",
        "movietweetings-temporal",
        (("xlstm", 0.115),),
        note="No two events of a user have the same time.",
    ),
    Log(
        "MovieLens-1M, users 1 to 2999",
        "movielens-1m-half",
        "movielens-1m-half-temporal",
        published=(
            ("HSTU-large, RecTools tutorial (all users)", ".364", ".216"),
            ("xLSTM4Rec paper: xLSTM (all users)", ".307", ".178"),
            ("time-to-split: SASRec (all users)", ".321", ".186"),
            ("time-to-split: GRU4Rec (all users)", ".289", ".168"),
        ),
        note=(
            "Published rows are of all 6,040 users: an orientation, no comparison. Half of the "
            "users means half of the training events and fewer items to rank."
        ),
        aims_at_peers=True,
    ),
    Log(
        "MovieLens-1M as LRURec prepared it",
        "lrurec-movielens-1m",
        published=(("LRURec paper", ".326", ".193"),),
        targets=(("xlstm", 0.193 * 1.03),),
        note=(
            "This file orders events of the same time by item id, which tells a model what comes "
            "next: its numbers belong beside LRURec's own row and nowhere else."
        ),
    ),
)

SYNTHETIC = (
    ("synthetic-popularity", "popularity"),
    ("synthetic-order1", "last item"),
    ("synthetic-order2", "last two items"),
    ("synthetic-lag20", "item 20 ago"),
    ("synthetic-lag100", "item 100 ago"),
    ("synthetic-state", "parity of the history"),
)


def page(runs: dict[str, Run]) -> str:
    """Return the page as Markdown.

    Args:
        runs: Kept runs by preset; logs without a run are left out.
    """
    shown = [log for log in LOGS if log.preset in runs]
    parts = [HEAD]
    if shown:
        names = [(log.title, log.preset, log.temporal) for log in shown]
        parts.append(conclusions(names, runs))
    parts += [section(log, runs) for log in shown]
    if any(name in runs for name, _ in SYNTHETIC):
        parts.append(synthetic_section(runs))
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
    if log.published:
        lines += ["", "| Published | HR@10 | NDCG@10 |", "|---|---|---|"]
        lines += [f"| {source} | {hits} | {gain} |" for source, hits, gain in log.published]
    return "\n".join([*lines, ""])


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


def sentences(run: Run, model: str = "xlstm") -> list[str]:
    """How a model compares with every other neural model on the same users."""
    lines = []
    for pair in run["tables"]["as_ranked"]["pairs"]:
        others = {pair["better"], pair["worse"]} - {model}
        if len(others) != 1 or not others <= {"gru", "lstm", "sasrec"}:
            continue
        sign = 1 if pair["better"] == model else -1
        ends = sorted((sign * pair["low"], sign * pair["high"]))
        word = "significant" if pair["is_significant"] else "not significant"
        lines.append(
            f"- `{model}` minus `{others.pop()}`: {sign * pair['difference']:+.4f} "
            f"[{ends[0]:+.4f}, {ends[1]:+.4f}], p = {pair['p_holm']:.2g}: {word}."
        )
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
