"""Plots of the data: lengths of sequences, popularity of items."""

from __future__ import annotations

from tasks.report.charts import Chart, Row, line_chart
from tasks.report.maps import histogram

FEWEST_EVENTS = 3
"""Rows with fewer events carry no order, says the question `sequences_long_enough`."""


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
    """Training sequences by length, with the fewest events that carry order and the most read."""
    longest = data.get("max_seq_len")
    read = (
        f" The right one is the most a model reads at once, {longest} events "
        "(train.shared.max_seq_len): longer sequences are cut into windows."
    )
    return histogram(
        id,
        "Users by the length of their training sequence. Left of the left dashed line, with fewer "
        f"than {FEWEST_EVENTS} events, a sequence carries no order; more than a quarter of such "
        f"rows is suspect.{read if longest else ''}",
        data["lengths"],
        x_title="events (log)",
        y_title="users",
        at_x=(FEWEST_EVENTS, *((longest,) if longest else ())),
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
        at_x=(10.0,),
    )


def reach_of_popularity_chart(id: str, data: Row, limit: float, cutoff: int) -> Chart:
    """Share of events and of test targets on the most popular items, with the limit at K."""
    curves = {"share": "training events", "targets": "test targets"}
    rows = [
        {"place": row["place"], "share": row[key], "curve": curve}
        for key, curve in curves.items()
        for row in data["popularity"]
    ]
    return line_chart(
        id,
        "Share of training events and of test targets on the most popular items. The dashed lines "
        f"are the limit, {limit:.0%} of the targets on the first {cutoff} items: where the curve "
        "of targets passes above their crossing, showing the same items to all is almost perfect.",
        rows,
        x="place",
        y="share",
        colour="curve",
        x_title="items, most popular first (log)",
        y_title="share of all",
        log_x=True,
        limits=(limit,),
        at_x=(float(cutoff),),
    )
