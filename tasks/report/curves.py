"""The plots of comparison, learning, quality by group, training health and data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.report.charts import Chart, bar_chart, interval_chart, line_chart
from tasks.report.headline import METRIC, display
from tasks.report.records import Row, Training

MAX_POINTS = 200
"""Points per line: enough to see the shape, few enough to keep the page small."""


def comparison_chart(table: Row, best_possible: float | None) -> Chart:
    """NDCG@10 with intervals, best model first."""
    rows = [
        {
            "label": display(row["model"]),
            **{key: row["metrics"][METRIC][source] for key, source in _INTERVAL.items()},
        }
        for row in table["rows"]
    ]
    note = "" if best_possible is None else " The dashed line is the best possible score."
    return interval_chart(
        "comparison",
        f"Test NDCG@10 with 95 % intervals, full ranking.{note}",
        rows,
        x_title="NDCG@10",
        limit=best_possible,
    )


_INTERVAL = {"value": "mean", "low": "low", "high": "high"}


def learning_charts(trainings: Sequence[Training]) -> list[Chart]:
    """Validation metric and training loss by epoch."""
    charts = []
    for key, title, caption in (
        ("val/ndcg_at_10", "validation NDCG@10", "Validation NDCG@10 after each epoch."),
        ("train/loss", "training loss (nats)", "Mean training loss of each epoch."),
    ):
        rows = [
            {"model": _label(training, trainings), "epoch": epoch["epoch"], "value": epoch[key]}
            for training in trainings
            for epoch in training.epochs
            if epoch["epoch"] > 0 and epoch.get(key) is not None
        ]
        if rows:
            charts.append(
                line_chart(
                    f"learning-{key.replace('/', '-').replace('_', '-')}",
                    caption,
                    rows,
                    x="epoch",
                    y="value",
                    colour="model",
                    x_title="epoch",
                    y_title=title,
                )
            )
    return charts


def _label(training: Training, trainings: Sequence[Training]) -> str:
    name = display(training.model)
    several = sum(other.model == training.model for other in trainings) > 1
    return f"{name} seed {training.seed}" if several else name


def group_charts(by_history: Sequence[Row], by_popularity: Sequence[Row]) -> list[Chart]:
    """Test NDCG@10 by length of the history and by popularity of the target."""
    charts = []
    for id, rows, title, caption in (
        (
            "by-history",
            by_history,
            "events before the target",
            "Test NDCG@10 by length of the user's history.",
        ),
        (
            "by-popularity",
            by_popularity,
            "training events of the target item",
            "Test NDCG@10 by popularity of the target item.",
        ),
    ):
        shown = [
            {
                "group": f"{row['group']:g}" if isinstance(row["group"], float) else row["group"],
                "model": display(str(row["model"])),
                "value": row[METRIC],
            }
            for row in rows
            if row["ranking"] == "as_ranked" and row["split"] == "test"
        ]
        if shown:
            order = list(dict.fromkeys(row["group"] for row in shown))
            order.sort(key=lambda group: int(str(group).split("-")[0].rstrip("+")))
            charts.append(
                bar_chart(
                    id,
                    caption,
                    shown,
                    x="group",
                    y="value",
                    colour="model",
                    x_title=title,
                    y_title="NDCG@10",
                    order=order,
                )
            )
    return charts


def health_charts(trainings: Sequence[Training], max_grad_norm: float) -> list[Chart]:
    """Gradient norms, relative updates and gate openness over the recorded steps."""
    first = {training.model: training for training in reversed(trainings) if training.steps}
    charts = []
    norms = _step_rows(first.values(), "grad/norm")
    if norms:
        charts.append(
            line_chart(
                "grad-norm",
                "Global gradient norm before clipping; the dashed line is the clipping limit.",
                norms,
                x="step",
                y="value",
                colour="model",
                x_title="step",
                y_title="gradient norm",
                log_y=True,
                limit=max_grad_norm,
            )
        )
    if "xlstm" in first:
        charts += _xlstm_charts(first["xlstm"])
    return charts


def _step_rows(trainings: Any, key: str) -> list[Row]:
    return [
        {"model": display(training.model), "step": step["step"], "value": step[key]}
        for training in trainings
        for step in _thinned(training.steps)
        if isinstance(step.get(key), float) and step[key] > 0
    ]


def _xlstm_charts(training: Training) -> list[Chart]:
    charts = []
    for prefix, id, caption, title, log_y in (
        ("grad/", "xlstm-gradients", "xLSTM: gradient norm by part.", "gradient norm", True),
        (
            "update/",
            "xlstm-updates",
            "xLSTM: size of a step relative to the weights, by part.",
            "update / weight",
            True,
        ),
        ("gate/", "xlstm-gates", "xLSTM: mean openness of the gates.", "openness", False),
    ):
        rows = [
            {"part": key.removeprefix(prefix), "step": step["step"], "value": value}
            for step in _thinned(training.steps)
            for key, value in step.items()
            if key.startswith(prefix)
            and key not in ("grad/norm", "grad/clipped")
            and (value > 0 or not log_y)
        ]
        if rows:
            charts.append(
                line_chart(
                    id,
                    caption,
                    rows,
                    x="step",
                    y="value",
                    colour="part",
                    x_title="step",
                    y_title=title,
                    log_y=log_y,
                )
            )
    return charts


def _thinned(rows: Sequence[Row]) -> Sequence[Row]:
    every = -(-len(rows) // MAX_POINTS) or 1
    return rows[::every]
