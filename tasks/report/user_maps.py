"""Heat maps event by event: gates, memories, and which events are read."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.report.charts import Chart, Row
from tasks.report.curves import SHUT_GATE
from tasks.report.headline import display
from tasks.report.maps import heat_map

JUDGED_GATES = ("forget gate", "output gate")
"""Gates that the question `gates_not_stuck` calls shut below its limit."""


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
        shut = sum(_is_shut(row) for row in own)
        charts.append(
            heat_map(
                f"user-{number}-gates-{slug(model)}",
                f"{display(model)}: mean openness of the gates, and size of the memories relative "
                "to their largest, event by event. A forget or output gate below the limit, "
                f"{SHUT_GATE}, has a red frame: {shut or 'none'} here.",
                [{**row, "shut": _is_shut(row)} for row in own],
                x="position",
                y="part",
                value="value",
                x_title="position in the history",
                y_title=None,
                value_title="0 to 1",
                extra=("item",),
                framed="shut",
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
                f"user-{number}-reads-{slug(model)}-{slug(layer)}",
                f"{display(model)}, {layer}: {what}, mean over heads. Each row is a position and "
                "shows which events it reads. No question sets a limit here.",
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


def _is_shut(row: Row) -> bool:
    """Whether a gate is below the limit; before the first event there is nothing to forget."""
    judged = row["part"].endswith(JUDGED_GATES) and row["position"] > 1
    return judged and row["value"] is not None and row["value"] < SHUT_GATE


def _without_user(row: Row) -> Row:
    return {key: value for key, value in row.items() if key not in ("user", "model", "layer")}


def slug(text: str) -> str:
    """Letters and digits alone, for the id of an element: ``u 7`` becomes ``u-7``."""
    return "".join(letter if letter.isalnum() else "-" for letter in str(text))
