"""Why a few users were recommended what they were: tables and a plot per user."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.report.charts import Chart, Row, bar_chart
from tasks.report.headline import display

SHOWN_EVENTS = 15
"""Most influential events of a history that are listed."""


def explained_users(explanations: Sequence[Row]) -> list[Row]:
    """Return per explained user: title, recommended items, most influential events, plot.

    Args:
        explanations: Objects with user, model, history (item, time, influence, gradient) and
            recommended (item, score).
    """
    return [_user(number, one) for number, one in enumerate(explanations)]


def _user(place: int, one: Row) -> Row:
    history = list(enumerate(one["history"], start=1))
    strongest = sorted(history, key=lambda pair: -abs(pair[1]["influence"]))[:SHOWN_EVENTS]
    return {
        "title": f"User {one['user']}, {display(one['model'])}",
        "recommended": [(row["item"], f"{row['score']:.3f}") for row in one["recommended"]],
        "events": [
            (
                str(position),
                row["item"],
                row["time"],
                f"{row['influence']:+.3f}",
                f"{row['gradient']:.3g}",
            )
            for position, row in strongest
        ],
        "left_out": max(0, len(history) - SHOWN_EVENTS),
        "chart": _chart(f"explained-{place}", history) if history else None,
    }


def _chart(id: str, history: Sequence[tuple[int, Row]]) -> Chart:
    rows = [
        {"position": str(position), "influence": row["influence"], "kind": "influence"}
        for position, row in history
    ]
    return bar_chart(
        id,
        "What each past event does for the first recommendation: its score above the mean of the "
        "catalogue, minus the same without the event.",
        rows,
        x="position",
        y="influence",
        colour="kind",
        x_title="event of the history, oldest first",
        y_title="influence",
        order=[str(position) for position, _ in history],
    )
