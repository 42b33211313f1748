"""The first lines of the report: which model to use, and whether the xLSTM is worth it."""

from __future__ import annotations

from typing import Any

METRIC = "ndcg_at_10"
SIMPLE_MODELS = ("popularity", "transitions", "logistic_regression")

DISPLAY_NAMES = {
    "popularity": "Popularity",
    "transitions": "Transitions",
    "logistic_regression": "Logistic regression",
    "gru": "GRU",
    "lstm": "LSTM",
    "sasrec": "SASRec",
    "xlstm": "xLSTM",
}

Table = dict[str, Any]


def display(model: str) -> str:
    """Return a model's name as people write it.

    >>> display("xlstm"), display("my_model")
    ('xLSTM', 'my_model')
    """
    return DISPLAY_NAMES.get(model, model)


def headlines(table: Table, best_possible: float | None = None) -> list[str]:
    """Return the lines an honest reader needs first.

    Args:
        table: One comparison table: ``rows`` (best first) and ``pairs``.
        best_possible: NDCG@10 of an observer who knows the generator, on synthetic data.
    """
    if not table["rows"]:
        return ["No model was evaluated."]
    lines = [_best_line(table)]
    if len(table["rows"]) > 1:
        lines.append(_rivals_line(table))
    if any(row["model"] == "xlstm" for row in table["rows"]):
        lines += _xlstm_lines(table)
    if best_possible:
        share = table["rows"][0]["metrics"][METRIC]["mean"] / best_possible
        lines.append(
            f"The best possible NDCG@10 on this log is {best_possible:.4f}; the best model reaches "
            f"{share:.0%} of it."
        )
    return lines


def _best_line(table: Table) -> str:
    best = table["rows"][0]
    value = best["metrics"][METRIC]
    seeds = "1 seed" if best["num_seeds"] == 1 else f"mean of {best['num_seeds']} seeds"
    return (
        f"Best model: {display(best['model'])}, NDCG@10 {value['mean']:.4f} "
        f"(95 % interval {value['low']:.4f} to {value['high']:.4f}; {best['num_users']:,} users, "
        f"{seeds})."
    )


def _rivals_line(table: Table) -> str:
    best = table["rows"][0]["model"]
    beaten = [other for other in _others(table, best) if is_significant(table, best, other)]
    level = [other for other in _others(table, best) if other not in beaten]
    if not level:
        return f"It is significantly better than every other model: {_listed(beaten)}."
    if not beaten:
        return f"It is not significantly better than any other model ({_listed(level)})."
    return (
        f"It is significantly better than {_listed(beaten)}; "
        f"the difference to {_listed(level)} is within noise."
    )


def _xlstm_lines(table: Table) -> list[str]:
    lines = []
    simple = next((r["model"] for r in table["rows"] if r["model"] in SIMPLE_MODELS), None)
    rivals = dict.fromkeys(("gru", "transitions", simple))
    for rival in filter(None, rivals):
        pair = find_pair(table, "xlstm", rival)
        if pair is None:
            continue
        won = pair["better"] == "xlstm" and pair["difference"] > 0
        real = "significant" if pair["is_significant"] else "within noise"
        verb = "beats" if won else ("loses to" if pair["difference"] > 0 else "equals")
        lines.append(
            f"xLSTM {verb} {display(rival)} by {pair['difference']:.4f} NDCG@10 "
            f"({pair['low']:.4f} to {pair['high']:.4f}; {real}, p = {pair['p_holm']:.2g})."
        )
    return lines


def find_pair(table: Table, one: str, other: str) -> dict[str, Any] | None:
    """Return the tested difference between two models on NDCG@10, in whichever direction."""
    for pair in table["pairs"]:
        if pair["metric"] == METRIC and {pair["better"], pair["worse"]} == {one, other}:
            return pair
    return None


def is_significant(table: Table, better: str, worse: str) -> bool:
    """True where ``better`` beats ``worse`` significantly on NDCG@10."""
    pair = find_pair(table, better, worse)
    return bool(pair and pair["better"] == better and pair["is_significant"])


def _others(table: Table, model: str) -> list[str]:
    return [row["model"] for row in table["rows"] if row["model"] != model]


def _listed(models: list[str]) -> str:
    names = [display(model) for model in models]
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def verdict_on(table: Table, model: str) -> str:
    """Return what the tests say of one model against the best, for the last column of a table.

    The best model names how many it beats; every other says whether it is significantly worse.
    """
    best = table["rows"][0]["model"]
    if model == best:
        count = sum(is_significant(table, best, other) for other in _others(table, best))
        return f"best; significantly better than {count} of {len(table['rows']) - 1}"
    pair = find_pair(table, best, model)
    if pair is None:
        return "not tested"
    kind = "significantly worse" if pair["is_significant"] else "within noise of the best"
    return f"{kind} (p = {pair['p_holm']:.2g})"


def short_verdict(table: Table, model: str) -> str:
    """Return `verdict_on` in the few words a terminal has room for."""
    best = table["rows"][0]["model"]
    pair = find_pair(table, best, model)
    if model == best or pair is None:
        return "best" if model == best else "not tested"
    return f"{'worse' if pair['is_significant'] else 'noise'}, p = {pair['p_holm']:.2g}"
