"""The plot that belongs to a question: what was measured, with the limit drawn in."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tasks.report import data_plots, inside_plots
from tasks.report.charts import (
    EDGE,
    LIMIT_COLOUR,
    MODEL_COLOURS,
    Chart,
    Row,
    line_chart,
    themed,
)
from tasks.report.curves import SHUT_GATE, part_chart, step_chart
from tasks.report.drawn_limits import limit_of, loss_limit
from tasks.report.headline import display
from tasks.report.records import Records, Training

SMALLEST_SHARE = 1e-6
"""Shares of a limit below this are drawn here: a log axis has no zero."""

Builder = Callable[[str, Row, Records, Training | None], Chart | None]


def evidence_charts(finding: Row, records: Records, training: Training | None) -> list[Chart]:
    """Return the plots of one finding, most telling first.

    Args:
        finding: As in findings.json.
        records: Everything on disk.
        training: First training of the model under test, if there is one.
    """
    id = f"evidence-{finding['question']}"
    builder = BUILDERS.get(finding["question"])
    chart = builder(id, finding, records, training) if builder else None
    charts = [chart] if chart else []
    shares = shares_chart(f"{id}-shares", finding)
    return [*charts, shares] if shares else charts


def shares_chart(id: str, finding: Row) -> Chart | None:
    """How much of each limit was used, on a log axis; None where that says nothing.

    Counts that must be zero have no share of a limit, and a table tells them better.
    """
    rows = [
        {
            "check": str(number),
            "share": max(share, SMALLEST_SHARE),
            "name": check["name"],
            "verdict": check["verdict"],
        }
        for number, check in enumerate(finding["checks"], start=1)
        if (share := share_of_limit(check)) is not None
    ]
    if not rows or all(row["share"] <= SMALLEST_SHARE for row in rows):
        return None
    return Chart(
        id,
        "How much of each limit was used; beyond the dashed line the limit is broken. Numbers are "
        "those of the table. The axis is logarithmic.",
        _share_spec(rows),
    )


def share_of_limit(check: Row) -> float | None:
    """Return value / limit, or limit / value for a lower limit; None without two such numbers.

    A lower limit just below 1, as of a cosine, allows a distance from 1: its share is taken.

    >>> check = {"value": 0.2, "limit": {"value": 0.8}, "relation": "at_most", "verdict": "healthy"}
    >>> share_of_limit(check)
    0.25
    >>> share_of_limit({**check, "value": 0.95, "limit": {"value": 0.9}, "relation": "at_least"})
    0.5
    """
    value, limit = check["value"], check["limit"]["value"]
    numbers = [v for v in (value, limit) if isinstance(v, int | float) and math.isfinite(v)]
    if len(numbers) < 2 or limit <= 0 or check["verdict"] == "not_applicable":
        return None
    if check["relation"] == "at_most":
        return max(float(value), 0.0) / limit
    if 0.5 < limit < 1 and value <= 1 + 1e-9:
        return round(max(1.0 - value, 0.0) / (1.0 - limit), 9)
    return limit / value if value > 0 else None


def _share_spec(rows: Sequence[Row]) -> dict[str, Any]:
    import altair as alt

    data = alt.Chart(alt.Data(values=list(rows)))
    y = alt.Y("check:N", title="row", sort=[row["check"] for row in rows])
    axis = alt.Axis(format="~g", labelOverlap=True, tickCount=6)
    # Room beside the data, so that the limit at the edge is not taken for the axis.
    scale = alt.Scale(type="log", nice=False, padding=EDGE)
    x = alt.X("share:Q", title="share of the limit (log)", scale=scale, axis=axis)
    tooltip = ["check:N", "name:N", alt.Tooltip("share:Q", format=".3g"), "verdict:N"]
    points = data.mark_point(filled=True, size=90, color=MODEL_COLOURS[0]).encode(
        x=x, y=y, tooltip=tooltip
    )
    line = alt.Chart(alt.Data(values=[{"limit": 1.0}]))
    dashed = line.mark_rule(strokeDash=[4, 4], color=LIMIT_COLOUR).encode(x="limit:Q")
    return themed((points + dashed).properties(height=max(60, 26 * len(rows))))


def _loss(id: str, finding: Row, records: Records, training: Training | None) -> Chart | None:
    limit = loss_limit(finding)
    note = "" if limit is None else " It has to end below the dashed line, the limit."
    title = "training loss (nats)"
    return _by_epoch(id, training, "train/loss", title, "Mean training loss", limit, note)


def _validation(id: str, finding: Row, records: Records, training: Training | None) -> Chart | None:
    simple = [t.record.get("val/ndcg_at_10") for t in records.trainings if not t.steps]
    best = max((value for value in simple if value is not None), default=None)
    note = "" if best is None else " The dashed line is the best simple model."
    return _by_epoch(
        id, training, "val/ndcg_at_10", "validation NDCG@10", "Validation NDCG@10", best, note
    )


def _by_epoch(
    id: str,
    training: Training | None,
    key: str,
    title: str,
    what: str,
    limit: float | None = None,
    note: str = "",
) -> Chart | None:
    epochs = [] if training is None else training.epochs
    rows = [
        {"epoch": epoch["epoch"], "value": epoch[key], "line": title}
        for epoch in epochs
        if epoch["epoch"] > 0 and epoch.get(key) is not None
    ]
    if not rows:
        return None
    return line_chart(
        id,
        f"{what} after each epoch.{note}",
        rows,
        x="epoch",
        y="value",
        colour="line",
        x_title="epoch",
        y_title=title,
        limits=() if limit is None else (limit,),
    )


def _clipping(id: str, finding: Row, records: Records, training: Training | None) -> Chart | None:
    declared = finding["evidence"].get("clipping.declared", finding["evidence"].get("declared"))
    limit = declared["value"] if declared else None
    return step_chart(id, [training] if training else [], limit)


def _gradients(id: str, finding: Row, records: Records, training: Training | None) -> Chart | None:
    shared = ({} if training is None else training.record.get("settings", {})).get("shared", {})
    return part_chart(id, training, "grad/", limits=(shared.get("max_grad_norm"),))


def _updates(id: str, finding: Row, records: Records, training: Training | None) -> Chart | None:
    if records.plots.get("rates"):
        return inside_plots.rates_chart(id, records.plots["rates"], finding)
    return part_chart(id, training, "update/", limits=(limit_of(finding, "optimiser step"),))


def _gates(id: str, finding: Row, records: Records, training: Training | None) -> Chart | None:
    return part_chart(id, training, "gate/", limits=(SHUT_GATE,))


def _lags(id: str, finding: Row, records: Records, training: Training | None) -> Chart | None:
    model = training.model if training else None
    rows = [row for row in records.plots.get("lags", []) if row["model"] == model]
    floor = limit_of(finding, "gradient")
    return inside_plots.lags_chart(id, rows, floor=floor) if rows else None


def _norms(id: str, finding: Row, records: Records, training: Training | None) -> Chart | None:
    rows = records.plots.get("norms", [])
    if training is None or not any(row["model"] == training.model for row in rows):
        return None
    limits = (limit_of(finding, "largest norm"), limit_of(finding, "smallest norm"))
    return _growth_chart(id, rows, training.model, [each for each in limits if each is not None])


def _growth_chart(id: str, rows: Sequence[Row], model: str, limits: Sequence[float]) -> Chart:
    """Size of states by position of one model relative to the first position, with the limits."""
    own = [row for row in rows if row["model"] == model and (row["value"] or 0) > 0]
    first: dict[str, float] = {}
    for row in own:
        first.setdefault(row["part"], row["value"])
    note = " What a cell puts out may not leave the band between the dashed lines."
    return line_chart(
        id,
        f"{display(model)}: median norm of its states by position in the history, over that at "
        f"the first. A memory c is on its cell's running scale.{note if limits else ''}",
        [{**row, "value": row["value"] / first[row["part"]]} for row in own],
        x="position",
        y="value",
        colour="part",
        x_title="position",
        y_title="norm over the first one (log)",
        log_y=True,
        limits=limits,
    )


def _spectrum(id: str, finding: Row, records: Records, training: Training | None) -> Chart | None:
    rows = records.plots.get("spectrum")
    return inside_plots.spectrum_chart(id, rows) if rows else None


def _order(id: str, finding: Row, records: Records, training: Training | None) -> Chart | None:
    rows = records.plots.get("order")
    return inside_plots.order_chart(id, rows) if rows else None


def _lengths(id: str, finding: Row, records: Records, training: Training | None) -> Chart | None:
    data = records.plots.get("data", {})
    return data_plots.lengths_chart(id, data) if data.get("lengths") else None


def _popularity(id: str, finding: Row, records: Records, training: Training | None) -> Chart | None:
    data = records.plots.get("data", {})
    curve = data.get("popularity")
    if not curve:
        return None
    limit, cutoff = limit_of(finding, "most popular items"), finding["evidence"].get("cutoff")
    if limit is None or cutoff is None or "targets" not in curve[0]:
        return data_plots.popularity_chart(id, data)
    return data_plots.reach_of_popularity_chart(id, data, limit, cutoff["value"])


BUILDERS: dict[str, Builder] = {
    "loss_falls": _loss,
    "loss_falls_each_epoch": _loss,
    "validation_improves": _validation,
    "clipping_works": _clipping,
    "clipping_stops_explosions": _clipping,
    "gradients_flow": _gradients,
    "learning_rate_suits": _updates,
    "learning_rate_suits_depth": _updates,
    "gates_not_stuck": _gates,
    "gradients_survive_time": _lags,
    "state_norms_bounded": _norms,
    "embeddings_learn": _spectrum,
    "features_used": _order,
    "sequences_long_enough": _lengths,
    "batch_and_length_suit": _lengths,
    "distributions_reasonable": _popularity,
}
"""Question -> the plot that shows its evidence."""
