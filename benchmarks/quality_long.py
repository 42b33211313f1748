"""The section of the page on long histories, and on runs whose test events were not ranked."""

from __future__ import annotations

from statistics import mean
from typing import Any

Run = dict[str, Any]
LONG_MODELS = ("gru", "sasrec", "xlstm")
WITHOUT_TIMES = ((200, "movielens-1m-half"), (1000, "movielens-1m-half-s1000"))
WITH_TIMES = (
    (200, "movielens-1m-half-gaps"),
    (1000, "movielens-1m-half-gaps-s1000"),
    (5000, "movielens-1m-half-gaps-s5000"),
)
"""Windows and their presets on the same log: models that know of times nothing but the order of
events, and models that are told the time since the last event."""
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
    families = [
        (title, [pair for pair in family if pair[1] in runs])
        for title, family in (("no", WITHOUT_TIMES), ("yes", WITH_TIMES))
    ]
    if any(len(windows) > 1 for _, windows in families):
        lines += [*_windows(families, runs), ""]
    lags = [lag for lag in LAGS if lag[2] in runs]
    if lags:
        lines += [*_lags(lags, runs), ""]
    if costs:
        lines += [*_costs(costs), ""]
    return "\n".join(lines) if len(lines) > 2 else ""


def shorter_windows(name: str) -> dict[str, str]:
    """Presets by window, up to a preset of long windows; empty for other presets.

    >>> shorter_windows("movielens-1m-half-s1000")
    {'200': 'movielens-1m-half', '1,000': 'movielens-1m-half-s1000'}
    >>> shorter_windows("movielens-1m-half")
    {}
    """
    for family in (WITHOUT_TIMES, WITH_TIMES):
        presets = [preset for _, preset in family]
        if name in presets[1:]:
            taken = family[: presets.index(name) + 1]
            return {f"{length:,}": preset for length, preset in taken}
    return {}


def best_by_validation(runs: dict[str, Run]) -> dict[str, tuple[str, str]]:
    """Preset and model by a name for the two: each model where its mean validation is highest."""
    chosen = {}
    for model in LONG_MODELS:
        places = [
            (_validation(runs[preset], model), f"{model}, {length:,}{words}", preset)
            for family, words in ((WITHOUT_TIMES, ""), (WITH_TIMES, " with times"))
            for length, preset in family
            if runs.get(preset, {}).get("tables")
        ]
        _, name, preset = max(places)
        chosen[name] = (preset, model)
    return chosen


def _windows(families: list[tuple[str, list[tuple[int, str]]]], runs: dict[str, Run]) -> list[str]:
    lines = [
        "MovieLens-1M, users 1 to 2999, by the number of events in a window (5,000 holds every "
        "history whole) and by whether models are told the time since the last event; the "
        "settings are those tuned at 200 without times. Long: the test users whose history has "
        "200 events or more. Memory is the most that PyTorch held of the GPU. Tests of windows of "
        "200 without times are of three seeds, trained again for them: they differ from the rows "
        "of five by .0021 at most.",
        "",
        "| Model | times | window | seeds | validation NDCG@10 | test NDCG@10 | long users "
        "| GPU memory |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for model in LONG_MODELS:
        for has_times, windows in families:
            for length, preset in windows:
                if model in runs[preset]["trainings"]:
                    lines.append(_window_row(model, has_times, length, runs[preset]))
    for title, windows in (("Without times", families[0][1]), ("With times", families[1][1])):
        by_length = {length: runs[preset] for length, preset in windows}
        pairs = runs[windows[-1][1]].get("beside_shorter", []) if windows else []
        if told := [_difference(pair) for pair in pairs if _is_told(pair, by_length)]:
            lines += ["", f"{title}:", "", *told]
    for _, windows in families:
        for _, preset in windows[-1:]:
            if best := runs[preset].get("best_by_validation"):
                lines += ["", "Each model with the window and times that validate best:", ""]
                lines += [_difference(pair) for pair in best]
    return lines


def _window_row(model: str, has_times: str, length: int, run: Run) -> str:
    training = run["trainings"][model]
    row = run["tables"].get("as_ranked", {}).get("rows", {}).get(model)
    seeds = row["num_seeds"] if row else len(training["seeds"])
    cells = [f"`{model}`", has_times, f"{length:,}", str(seeds)]
    cells.append(_number(_validation(run, model)))
    if row:
        test, long = row["metrics"]["ndcg_at_10"], run["long_histories"][model]
        cells.append(f"{_number(test['mean'])} [{_number(test['low'])}, {_number(test['high'])}]")
        near = f"{_number(long['ndcg_at_10'])} ± {_number(long['standard_error'])}"
        cells.append(f"{near} ({long['users']})")
    else:
        cells += ["not ranked", "–"]
    cells.append(f"{training['gpu_mebibytes'] / 1024:.1f} GiB")
    return f"| {' | '.join(cells)} |"


def _difference(pair: dict[str, Any]) -> str:
    word = "significant" if pair["is_significant"] else "not significant"
    return (
        f"- `{pair['better']}` minus `{pair['worse']}`: {pair['difference']:+.4f} "
        f"[{pair['low']:+.4f}, {pair['high']:+.4f}], p = {pair['p_holm']:.2g}: {word}."
    )


def _validation(run: Run, model: str) -> float:
    """Mean validation of the seeds that were ranked; of all where none was."""
    row = run["tables"].get("as_ranked", {}).get("rows", {}).get(model)
    seen = run["trainings"][model]["validation"]
    return mean(seen[: row["num_seeds"]] if row else seen)


def _is_told(pair: dict[str, Any], by_length: dict[int, Run]) -> bool:
    """Whether the page has a test: of two windows of one model, or of the xLSTM with a longer
    window beside another model at the same window or at the one that validates best."""
    (model, length), (other, other_length) = (
        (name, int(window.replace(",", "")))
        for name, window in (pair[side].split(", ") for side in ("better", "worse"))
    )
    if model == other:
        return True
    if "xlstm" not in (model, other):
        return False
    if other == "xlstm":
        length, other, other_length = other_length, model, length
    best = max(by_length, key=lambda window: _validation(by_length[window], other))
    return length > min(by_length) and other_length in (length, best)


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
