"""The fifty questions, one file each, listed in the order of the questionnaire."""

from __future__ import annotations

from tasks.diagnostics.question import Question
from tasks.diagnostics.questions import (
    events_in_time_order,
    loss_fits_task,
    order_and_flow,
    ranking_metrics_right,
)

QUESTIONS: tuple[Question, ...] = (
    order_and_flow.QUESTION,
    loss_fits_task.QUESTION,
    events_in_time_order.QUESTION,
    ranking_metrics_right.QUESTION,
)
