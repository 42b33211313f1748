"""The section of the page on long histories, and on runs whose test events were not ranked."""

from __future__ import annotations

from statistics import mean
from typing import Any

Run = dict[str, Any]
LONG_MODELS = ("gru", "sasrec", "xlstm")
LENGTHS = ((200, "movielens-1m-half"), (1000, "movielens-1m-half-s1000"))
"""Windows and their presets on the same log."""
LAGS = (
    (100, 200, "synthetic-lag100"),
    (500, 1000, "synthetic-lag500"),
    (2500, 5000, "synthetic-lag2500"),
)
"""Distance of the item that counts, window, preset."""
COSTS = (200, 1000, 5000)


def long_section(runs: dict[str, Run], costs: dict[str, Any]) -> str:
    """Quality and cost by the length of the windows.

    Args:
        runs: Kept runs by preset; empty where the runs of long windows are not among them.
        costs: Numbers of `benchmarks.history_cost`.
    """
    lines = ["## Long histories", ""]
    if all(preset in runs and runs[preset].get("long_histories") for _, preset in LENGTHS):
        lines += [*_windows(runs), ""]
    lags = [lag for lag in LAGS if lag[2] in runs]
    if lags:
        lines += [*_lags(lags, runs), ""]
    if costs:
        lines += [*_costs(costs), ""]
    return "\n".join(lines) if len(lines) > 2 else ""


def _windows(runs: dict[str, Run]) -> list[str]:
    lines = [
        "MovieLens-1M, users 1 to 2999, with windows of 200 and of 1,000 events; the settings are "
        "those tuned at 200. Long: the test users whose history has 200 events or more. Memory is "
        "the most that PyTorch held of the GPU. The tests below are of three seeds at both "
        "windows: those at 200 were trained again for them, and differ from the rows of five by "
        ".0021 at most.",
        "",
        "| Model | window | seeds | validation NDCG@10 | test NDCG@10 | long users | GPU memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for model in LONG_MODELS:
        for length, preset in LENGTHS:
            run = runs[preset]
            training, row = run["trainings"][model], run["tables"]["as_ranked"]["rows"][model]
            test, long = row["metrics"]["ndcg_at_10"], run["long_histories"][model]
            seen = training["validation"][: row["num_seeds"]]
            lines.append(
                f"| `{model}` | {length:,} | {row['num_seeds']} | {_number(mean(seen))} "
                f"| {_number(test['mean'])} [{_number(test['low'])}, {_number(test['high'])}] "
                f"| {_number(long['ndcg_at_10'])} ± {_number(long['standard_error'])} "
                f"({long['users']}) | {training['gpu_mebibytes'] / 1024:.1f} GiB |"
            )
    lines.append("")
    for pair in runs[LENGTHS[-1][1]].get("beside_shorter", []):
        if "xlstm, 1,000" in (pair["better"], pair["worse"]):
            word = "significant" if pair["is_significant"] else "not significant"
            lines.append(
                f"- `{pair['better']}` minus `{pair['worse']}`: {pair['difference']:+.4f} "
                f"[{pair['low']:+.4f}, {pair['high']:+.4f}], p = {pair['p_holm']:.2g}: {word}."
            )
    return lines


def _lags(lags: list[tuple[int, int, str]], runs: dict[str, Run]) -> list[str]:
    lines = [
        "Synthetic logs whose next item depends on one far back, width 64: validation NDCG@10 as a "
        "share of the best possible, each seed; seconds of the fastest epoch, on GPUs that other "
        "trainings used too; GPU memory.",
        "",
        "| Item so far back | window | training events | model | share by seed | epoch | memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for distance, window, preset in lags:
        run = runs[preset]
        best = run["best_possible"]["val/ndcg_at_10"]
        for model in ("transitions", *LONG_MODELS):
            training = run["trainings"][model]
            values = training["validation"] if model in LONG_MODELS else training["validation"][:1]
            shares = ", ".join(f"{value / best:.3f}" for value in values)
            cost = (
                f"{training['epoch_seconds']:.2f} s | {training['gpu_mebibytes'] / 1024:.1f} GiB"
                if model in LONG_MODELS
                else "– | –"
            )
            lines.append(
                f"| {distance:,} | {window:,} | {run['counts']['train_events']:,} | `{model}` "
                f"| {shares} | {cost} |"
            )
    return lines


def _costs(costs: dict[str, Any]) -> list[str]:
    lines = [
        f"Cost alone on one {costs['device']}, tuned settings of `movielens-1m-half` (width 128), "
        "random full windows, 40,000 events a step (`python -m benchmarks.history_cost`), the "
        "xLSTM with later kernels than the others. Scoring is of one history in float32.",
        "",
        "| Model | window | training step | GPU memory | scoring |",
        "|---|---|---|---|---|",
    ]
    for model in LONG_MODELS:
        for length in COSTS:
            row = costs.get(f"{model} {length}")
            cells = "not measured | – | –"
            if row:
                cells = (
                    f"{row['milliseconds']:.1f} ms | {row['mebibytes'] / 1024:.1f} GiB "
                    f"| {row['scoring']:.1f} ms"
                )
            lines.append(f"| `{model}` | {length:,} | {cells} |")
    return lines


def _number(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")
