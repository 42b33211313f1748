"""G24. Does counting transitions learn from these data, and does the model keep up with it?

Reads: transition counts and popularity on test users, and the same two on every user's last
training event, fitted without those events; repeated transitions in training sequences and in the
raw log, beside shuffled ones; the trained model's ranks where there is one.

Rule: if transitions beat popularity within training, they do on the test users too: a fifth of the
gain at least (two-sample test over users). If the raw log repeats transitions beyond chance, so do
the training sequences, two fifths as much at least. Either breach means that something between log,
training and test destroys what can be learned. If neither finds anything, there is no order to
learn, and nothing is judged. A trained model well below transition counts is suspect, once it
has learned its training targets: counting is hard to beat on small logs, so that is no fault by
itself.

Limits: a fifth: drift between the last training event and the test event cost nothing measurable
on public logs (0.85 and more was kept). Two fifths of the excess of repeats, after three standard
errors are granted: public logs kept 0.87. A model at 0.7 of the gain of transition counts.

The same picture from elsewhere: shuffled time (`events_in_time_order`), other ids for test
(`preprocessing_same_everywhere`).

It can't tell: whether a history beyond the last item helps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tasks.diagnostics.finding import Check, Finding, Limit
from tasks.diagnostics.measurements import order_in_log, simple_models, skill, trained_out
from tasks.diagnostics.measurements.order_in_log import OrderInLog
from tasks.diagnostics.measurements.simple_models import SimpleModels
from tasks.diagnostics.measurements.skill import Skill
from tasks.diagnostics.measurements.trained_out import TrainedOut
from tasks.diagnostics.measurements.trends import chance_of_mean_below
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import Limits, Question, quantity

CLEAR_ORDER = 5.0
"""Standard deviations beyond shuffled sequences that count as order."""

KEPT = 0.2

LIMITS = {
    "kept": Limit(KEPT, "a fifth of the gain within training; public logs keep 0.85 and more"),
    "order": Limit(0.4, "of the raw log's repeats; public logs keep 0.87 and more"),
    "model": Limit(0.7, "of transition counts' gain over nothing; counting is hard to beat"),
}
EARLIER = ("order", "time", "encode", "format", "split", "align", "pad")


@dataclass(frozen=True)
class Evidence:
    """What counting learns, here and there."""

    simple: SimpleModels
    order: OrderInLog
    kept: float = quantity("gain of transitions on test per gain within training")
    p_kept: float = quantity("chance of a share this low if a fifth were kept")
    model: Skill | None = None
    state: TrainedOut | None = None


def measure(probe: Probe) -> Evidence:
    """Count; compare gains of transitions over popularity."""
    simple = probe.evidence(simple_models.measure)
    test = simple.transition_gains - simple.popularity_gains
    inner = simple.inner_differences
    within = float(inner.mean())
    trained = probe.subject.trained is not None and probe.allows("after_training")
    try:
        model = probe.evidence(skill.measure) if trained else None
        state = probe.evidence(trained_out.measure) if trained else None
    except NotMeasuredError:
        model = state = None
    return Evidence(
        simple=simple,
        order=probe.evidence(order_in_log.measure),
        kept=float(test.mean()) / within if within > 0 else 1.0,
        p_kept=_chance_below(test, KEPT * inner),
        model=model,
        state=state,
    )


def _chance_below(first: np.ndarray, second: np.ndarray) -> float:
    """p-value of a mean of `first` this far below that of `second`, if it were not below."""
    count = min(len(first), len(second))
    error = math.hypot(first.std(ddof=1), second.std(ddof=1)) / math.sqrt(count)
    gap = float(first.mean() - second.mean())
    if error == 0.0:
        return 0.0 if gap < 0 else 1.0
    # The spread of the difference as one sample: plus and minus one deviation in equal parts.
    deviation = error * math.sqrt(count)
    return chance_of_mean_below(gap + deviation * np.where(np.arange(count) % 2, 1.0, -1.0))


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """What training teaches holds on test; what the log holds reaches training."""
    simple, order = evidence.simple, evidence.order
    kept = Check(
        name="gain of transition counts over popularity on test, per gain within training",
        value=evidence.kept,
        unit="",
        limit=limits["kept"],
        stage="distribution",
        rule="statistical",
        relation="at_least",
        p_value=evidence.p_kept if simple.learnable_within else None,
        proof=""
        if simple.learnable_within
        else "within training, transition counts rank no better than popularity "
        f"({simple.inner_transitions:.3f}, {simple.inner_popularity:.3f}): no order to learn",
        explained_by=EARLIER,
        advice=("compare a test history and its target with the user's rows of the log",),
    )
    return QUESTION.finding(
        evidence, kept, _order_check(order, limits), _model_check(evidence, limits)
    )


def _order_check(order: OrderInLog, limits: Limits) -> Check:
    has_order = (order.log_z_score or 0.0) > CLEAR_ORDER
    room = 3.0 * order.excess_error
    kept = (order.excess + room) / order.log_excess if has_order else None
    proof = "" if has_order else "the raw log repeats transitions no more than shuffled ones"
    return Check(
        name="repeated transitions beyond chance in training sequences, per those in the raw log",
        value=kept,
        unit="",
        limit=limits["order"],
        stage="distribution",
        rule="intervention",
        relation="at_least",
        missing="the raw log" if order.log_z_score is None else "",
        proof="" if order.log_z_score is None else proof,
        essential=False,
        explained_by=EARLIER,
        advice=("compare training sequences with the log sorted by user and time",),
    )


def _model_check(evidence: Evidence, limits: Limits) -> Check:
    model, state, simple = evidence.model, evidence.state, evidence.simple
    judged = model is not None and state is not None and state.fits_training
    missing = "a finished training; train the model, then run `assay diagnose`"
    if state is not None and not state.fits_training:
        missing = state.missing
    return Check(
        name="gain of the trained model over popularity, per gain of transition counts",
        value=model.share if judged else None,
        unit="",
        limit=limits["model"],
        stage="symptom",
        rule="descriptive",
        relation="at_least",
        breach="suspect",
        missing=missing,
        proof=""
        if simple.learnable
        else "transition counts rank no better than popularity on test",
        essential=False,
        advice=("see validation_improves; a count model may serve these data as well",),
    )


QUESTION = Question(
    id="simple_model_learns",
    number="G24",
    title="Does counting transitions learn from these data, and does the model keep up with it?",
    stages=("distribution", "symptom"),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
