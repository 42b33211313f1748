"""Plots of data and trained models, from what the diagnosis measured for them."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.report.charts import Chart, Row, bar_chart, line_chart
from tasks.report.headline import display
from tasks.report.maps import cloud, heat_map, histogram, paths


def data_charts(plots: Row) -> list[Chart]:
    """Lengths of sequences and popularity of items."""
    data = plots.get("data", {})
    charts = []
    if data.get("lengths"):
        charts.append(lengths_chart("data-lengths", data))
    if data.get("popularity"):
        charts.append(popularity_chart("data-popularity", data))
    return charts


def lengths_chart(id: str, data: Row) -> Chart:
    """Training sequences by length, with the most events a model reads."""
    caption = (
        "Users by the length of their training sequence. The dashed line is the most a model "
        "reads, train.shared.max_seq_len; longer sequences are cut into windows."
    )
    return histogram(
        id,
        caption,
        data["lengths"],
        x_title="events (log)",
        y_title="users",
        at_x=data.get("max_seq_len"),
    )


def popularity_chart(id: str, data: Row) -> Chart:
    """Training events by the place of the item."""
    rows = [{**row, "curve": "items"} for row in data["popularity"] if row["events"] > 0]
    return line_chart(
        id,
        "Training events of each item, from the most to the least popular. The dashed line is the "
        "tenth: where most targets are among the first ten, showing those to all wins at 10.",
        rows,
        x="place",
        y="events",
        colour="curve",
        x_title="place in popularity (log)",
        y_title="training events (log)",
        log_x=True,
        log_y=True,
        at_x=10.0,
    )


def order_chart(id: str, rows: Sequence[Row]) -> Chart:
    """Quality from histories in order and from shuffled ones."""
    shown = [{**row, "model": display(row["model"])} for row in rows]
    return bar_chart(
        id,
        "NDCG@10 of the same test users from their histories in order and from the same events "
        "shuffled. A model that does not read the order has bars of equal height.",
        shown,
        x="model",
        y="value",
        colour="histories",
        x_title="",
        y_title="NDCG@10",
    )


def lags_chart(id: str, rows: Sequence[Row], *, floor: float | None = None) -> Chart:
    """Gradient by time lag."""
    shown = [{**row, "line": _line_of_lags(row)} for row in rows if (row["value"] or 0) > 0]
    limit = "" if floor is None else " The dashed line is the limit."
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
    )


def _line_of_lags(row: Row) -> str:
    return display(row["model"]) + (", untrained" if row["weights"] == "new" else "")


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
    """Variance of the item embeddings by direction."""
    shown = [{**row, "model": display(row["model"])} for row in rows if (row["share"] or 0) > 0]
    return line_chart(
        id,
        "Share of the item embeddings' variance in each direction, largest first. A line that "
        "drops to nothing at once means few directions are used.",
        shown,
        x="direction",
        y="share",
        colour="model",
        x_title="direction",
        y_title="share (log)",
        log_y=True,
    )


def map_chart(id: str, rows: Sequence[Row]) -> Chart:
    """Items by the two main components of their embeddings."""
    name = display(rows[0]["model"])
    caption = (
        f"{name}: the {len(rows):,} most popular items by the two main components of their "
        "embeddings, coloured by popularity. Point at one for its name."
    )
    return cloud(id, caption, rows, colour="events", colour_title="training events", label="item")


def rates_chart(id: str, rows: Sequence[Row]) -> Chart:
    """Loss after a few steps at rates around the declared one."""
    shown = [{**row, "line": "loss"} for row in rows if row["loss"] is not None]
    return line_chart(
        id,
        "Loss on one batch after forty steps from new weights, by the multiple of the declared "
        "learning rate (dashed line). Rates that gave no finite loss are left out.",
        shown,
        x="multiple",
        y="loss",
        colour="line",
        x_title="multiple of the learning rate (log)",
        y_title="loss (nats)",
        log_x=True,
        at_x=1.0,
    )


def model_charts(plots: Row) -> list[Chart]:
    """Plots over all users: order, lags, states, embeddings, paths, rates."""
    charts = []
    if plots.get("order"):
        charts.append(order_chart("inside-order", plots["order"]))
    if plots.get("lags"):
        charts.append(lags_chart("inside-lags", plots["lags"]))
    norms = plots.get("norms", [])
    if norms:
        charts.append(hidden_norms_chart("inside-norms", norms))
    for model in dict.fromkeys(row["model"] for row in norms if row["part"] != "hidden state"):
        charts.append(norms_chart(f"inside-norms-{_slug(model)}", norms, model))
    if plots.get("rates"):
        charts.append(rates_chart("inside-rates", plots["rates"]))
    if plots.get("spectrum"):
        charts.append(spectrum_chart("inside-spectrum", plots["spectrum"]))
    if plots.get("map"):
        charts.append(map_chart("inside-map", plots["map"]))
    if plots.get("paths"):
        name = display(plots["paths"][0]["model"])
        caption = (
            f"{name}: how the hidden state of a few users moves over their latest events, on the "
            "two main components of all states; later events are larger."
        )
        charts.append(paths("inside-paths", caption, plots["paths"], who="user", label="item"))
    return charts


def user_charts(plots: Row) -> list[Row]:
    """Heat maps event by event of each sample user: ``user`` and ``charts``."""
    rows = [*plots.get("gates", []), *plots.get("attention", [])]
    return [
        {
            "user": user,
            "charts": [
                *_gate_charts(number, [r for r in plots.get("gates", []) if r["user"] == user]),
                *_reading_charts(
                    number, [r for r in plots.get("attention", []) if r["user"] == user]
                ),
            ],
        }
        for number, user in enumerate(dict.fromkeys(row["user"] for row in rows))
    ]


def _gate_charts(number: int, rows: Sequence[Row]) -> list[Chart]:
    charts = []
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [_without_user(row) for row in rows if row["model"] == model]
        charts.append(
            heat_map(
                f"user-{number}-gates-{_slug(model)}",
                f"{display(model)}: mean openness of the gates, and size of the memories relative "
                "to their largest, event by event.",
                own,
                x="position",
                y="part",
                value="value",
                x_title="position in the history",
                y_title=None,
                value_title="0 to 1",
                extra=("item",),
            )
        )
    return charts


def _reading_charts(number: int, rows: Sequence[Row]) -> list[Chart]:
    charts = []
    for model, layer in dict.fromkeys((row["model"], row["layer"]) for row in rows):
        own = [_without_user(row) for row in rows if (row["model"], row["layer"]) == (model, layer)]
        what = "attention" if model == "sasrec" else "attention its mLSTM implies"
        charts.append(
            heat_map(
                f"user-{number}-reads-{_slug(model)}-{_slug(layer)}",
                f"{display(model)}, {layer}: {what}, mean over heads. Each row is a position and "
                "shows which events it reads.",
                own,
                x="read",
                y="reader",
                value="share",
                x_title="event read",
                y_title="at position",
                value_title="share",
                extra=("item",),
                between_0_and_1=False,
            )
        )
    return charts


def _without_user(row: Row) -> Row:
    return {key: value for key, value in row.items() if key not in ("user", "model", "layer")}


def _slug(text: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in str(text))
