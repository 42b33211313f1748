"""Plots of trained models, from what the diagnosis measured for them."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.report.charts import Chart, Row, bar_chart, line_chart
from tasks.report.drawn_limits import finding_of, limit_of, rate_limits, within_reach
from tasks.report.headline import display
from tasks.report.maps import cloud, paths
from tasks.report.user_maps import slug


def order_chart(id: str, rows: Sequence[Row]) -> Chart:
    """Quality from histories in order and from shuffled ones, with the limit of each model."""
    shown = [{**row, "model": display(row["model"])} for row in rows]
    drawn = any(row.get("limit") is not None for row in rows)
    limit = (
        " Shuffled, a model has to stay below its red mark: it then loses at least a fifth of what "
        "transition counts lose."
        if drawn
        else " Transition counts lose nothing by it, so no model has to."
    )
    return bar_chart(
        id,
        "NDCG@10 of the same test users from their histories in order and from the same events "
        f"shuffled, with 95 % intervals.{limit}",
        shown,
        x="model",
        y="value",
        colour="histories",
        x_title="",
        y_title="NDCG@10",
        order=list(dict.fromkeys(row["model"] for row in shown)),
        interval=("low", "high"),
        limit="limit",
    )


def lags_chart(id: str, rows: Sequence[Row], *, floor: float | None = None) -> Chart:
    """Gradient by time lag."""
    shown = [{**row, "line": _line_of(row)} for row in rows if (row["value"] or 0) > 0]
    limit = "" if floor is None else f" The level dashed line is the limit, {floor:g}."
    return line_chart(
        id,
        "Gradient of the last scores by the embedding of the event so many places before it, "
        f"relative to the last event.{limit}",
        shown,
        x="lag",
        y="value",
        colour="line",
        x_title="events back",
        y_title="relative gradient (log)",
        log_y=True,
        limits=() if floor is None else (floor,),
        controls=_untrained(shown),
    )


def _line_of(row: Row) -> str:
    return display(row["model"]) + (", untrained" if row.get("weights") == "new" else "")


def _untrained(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["line"] for row in rows if row.get("weights") == "new"))


def hidden_norms_chart(id: str, rows: Sequence[Row]) -> Chart:
    """Size of the hidden states by position, every model."""
    shown = [
        {**row, "model": display(row["model"])}
        for row in rows
        if row["part"] == "hidden state" and row["value"] is not None
    ]
    return line_chart(
        id,
        "Median norm of the hidden states by position in the history, as far as half of the users "
        "have one.",
        shown,
        x="position",
        y="value",
        colour="model",
        x_title="position",
        y_title="norm",
    )


def norms_chart(id: str, rows: Sequence[Row], model: str) -> Chart:
    """Size of states by position of one model."""
    shown = [row for row in rows if row["model"] == model and (row["value"] or 0) > 0]
    return line_chart(
        id,
        f"{display(model)}: median norm of its states by position in the history, as far as half "
        "of the users have one. A memory c is on its cell's running scale.",
        shown,
        x="position",
        y="value",
        colour="part",
        x_title="position",
        y_title="norm (log)",
        log_y=True,
    )


def spectrum_chart(id: str, rows: Sequence[Row]) -> Chart:
    """Variance of the item embeddings by direction, beside that of an untrained table."""
    shown = [{**row, "line": _line_of(row)} for row in rows if (row["share"] or 0) > 0]
    controls = _untrained(shown)
    note = (
        " Dashed is the table before training, all chance: a model's line that lies on it has "
        "learned nothing."
    )
    return line_chart(
        id,
        "Share of the item embeddings' variance in each direction, largest first. A line that "
        f"drops to nothing at once means few directions are used.{note if controls else ''}",
        shown,
        x="direction",
        y="share",
        colour="line",
        x_title="direction",
        y_title="share (log)",
        log_y=True,
        controls=controls,
    )


def map_chart(id: str, rows: Sequence[Row], reach: float | None = None) -> Chart:
    """Items by the two main components of their embeddings."""
    circle = " Before training, 95 % of them would lie within the dashed ring."
    caption = (
        f"{display(rows[0]['model'])}: the {len(rows):,} most popular items by the two main "
        "components of their embeddings, coloured by popularity. Point at one for its name."
        f"{circle if reach else ''}"
    )
    legend = "training events"
    return cloud(id, caption, rows, "events", colour_title=legend, label="item", circle=reach)


def paths_chart(id: str, rows: Sequence[Row], reach: float | None = None) -> Chart:
    """Hidden states of a few users, event by event."""
    circle = " 95 % of the states of many users lie within the dashed ring."
    caption = (
        f"{display(rows[0]['model'])}: how the hidden state of a few users moves over their latest "
        "events, on the two main components of all states; later events are larger."
        f"{circle if reach else ''}"
    )
    return paths(id, caption, rows, who="user", label="item", circle=reach)


def rates_chart(id: str, rows: Sequence[Row], finding: Row) -> Chart:
    """Loss after a few steps at rates around the declared one, with the limits as multiples."""
    finite = [{**row, "line": "loss"} for row in rows if row["loss"] is not None]
    before = [row["loss"] for row in finite if row["multiple"] == 0]
    shown = [row for row in finite if row["multiple"] > 0]
    limits = rate_limits(finding)
    drawn = within_reach(limits, [row["multiple"] for row in shown])
    note = ""
    if len(limits) == 2:
        note = (
            f" Limits, red where they fit in: below {limits[0]:.2g} times the rate all steps of "
            f"the budget can't move the weights, above {limits[1]:.2g} times one step is as large "
            "as they are."
        )
    grey = "the declared rate, and the loss before any step" if before else "the declared rate"
    return line_chart(
        id,
        "Loss on one batch after forty steps from new weights, by the multiple of the declared "
        f"learning rate. Grey: {grey}.{note} Rates that gave no finite "
        "loss are left out.",
        shown,
        x="multiple",
        y="loss",
        colour="line",
        x_title="multiple of the learning rate (log)",
        y_title="loss (nats)",
        log_x=True,
        at_x=drawn,
        marked=(("x", 1.0), *(("y", loss) for loss in before)),
    )


def model_charts(plots: Row, findings: Row) -> list[Chart]:
    """Plots over all users: order, lags, states, embeddings, paths, rates."""
    charts, reach = [], plots.get("reach", {})
    if plots.get("order"):
        charts.append(order_chart("inside-order", plots["order"]))
    if plots.get("lags"):
        floor = limit_of(finding_of(findings, "gradients_survive_time"), "gradient")
        charts.append(lags_chart("inside-lags", plots["lags"], floor=floor))
    norms = plots.get("norms", [])
    if norms:
        charts.append(hidden_norms_chart("inside-norms", norms))
    for model in dict.fromkeys(row["model"] for row in norms if row["part"] != "hidden state"):
        charts.append(norms_chart(f"inside-norms-{slug(model)}", norms, model))
    if plots.get("rates"):
        suits = finding_of(findings, "learning_rate_suits")
        charts.append(rates_chart("inside-rates", plots["rates"], suits))
    if plots.get("spectrum"):
        charts.append(spectrum_chart("inside-spectrum", plots["spectrum"]))
    if plots.get("map"):
        charts.append(map_chart("inside-map", plots["map"], reach.get("map")))
    if plots.get("paths"):
        charts.append(paths_chart("inside-paths", plots["paths"], reach.get("paths")))
    return charts
