"""G21. Does the model rank better than popularity, and are the best weights the ones kept?

Reads: ranks of test targets by the program's own scores, counted here; ranks by popularity and by
transition counts for the same users; validation metrics per epoch, and those of the weights handed
over; in the deep mode, where there is no skill, ranks by a training with another seed.

Rule: where transition counts beat popularity, a model that has learned its training targets makes
at least a quarter of their gain (paired over users), with this seed or another: what one training
shows is suspect until a second one shows it too. One that came to rest without learning them is
suspect: models rest at popularity's level for a while before they find any order. One that is
still learning is not judged, nor is anything where transitions do not beat popularity. The weights
handed over validate as the record says of the best epoch, that epoch is the best of its metric, and
the reported test metrics are those of these weights (identities). Where they validate otherwise,
the record may be that of the test split; where another epoch's record is theirs, or the last
weights validate as recorded, other weights are scored than were chosen; else the metric is another
one.

Limits: a quarter of the gain of transition counts, tested one-sided: healthy trainings measured 0.8
and more of it. Validation again: two users' worth, or 0.001 where there are many: arithmetic of
another device or thread count moves near ties.

The same picture from elsewhere: everything that keeps a model from learning; a symptom.

It can't tell: whether a better model is possible (`lstm_learns`, `baseline_confirms_pipeline`).
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.diagnostics.finding import Check, Finding, Limit, Repeat
from tasks.diagnostics.measurements import (
    handed_over,
    reported_test,
    second_training,
    skill,
    trained_out,
)
from tasks.diagnostics.measurements.handed_over import HandedOver
from tasks.diagnostics.measurements.reported_test import ReportedTest
from tasks.diagnostics.measurements.skill import REACHED, Skill, of_skill
from tasks.diagnostics.measurements.trained_out import TrainedOut
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError, NotOfferedError
from tasks.diagnostics.question import Limits, Question
from tasks.diagnostics.stages import Stage

LIMITS = {
    "share": Limit(REACHED, "counting is the least to reach; healthy trainings pass 0.8"),
    "same": Limit(1e-3, "the same weights on the same examples, up to near ties"),
    "best": Limit(0.0, "identity: the best epoch has the best value"),
}


@dataclass(frozen=True)
class Evidence:
    """Skill on test users, and which weights they come from."""

    skill: Skill
    state: TrainedOut
    handed_over: HandedOver | None
    lacking: str = ""
    test: ReportedTest | None = None
    untold: str = ""
    again: Repeat | None = None


def measure(probe: Probe) -> Evidence:
    """Rank, and validate again."""
    try:
        weights, lacking = probe.evidence(handed_over.measure), ""
    except (NotMeasuredError, NotOfferedError) as problem:
        weights, lacking = None, str(problem)
    try:
        test, untold = probe.evidence(reported_test.measure), ""
    except (NotMeasuredError, NotOfferedError) as problem:
        test, untold = None, str(problem)
    found = probe.evidence(skill.measure)
    again = second_training.repeat(probe, skill.measure, of_skill) if found.lacking else None
    return Evidence(
        skill=found,
        state=probe.evidence(trained_out.measure),
        handed_over=weights,
        lacking=lacking,
        test=test,
        untold=untold,
        again=again,
    )


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """Skill where there can be any; the right weights."""
    found, state, weights = evidence.skill, evidence.state, evidence.handed_over
    judged = state.fits_training or state.levelled or found.share >= limits["share"].value
    share = Check(
        name="gain over popularity per gain of transition counts, NDCG on test users",
        value=found.share if judged else None,
        unit="",
        limit=limits["share"],
        stage="symptom",
        rule="statistical",
        relation="at_least",
        breach="faulty" if state.fits_training else "suspect",
        p_value=found.p_below if judged else None,
        by_training=True,
        repeat=evidence.again,
        missing=state.missing,
        proof=""
        if found.learnable
        else f"transition counts rank no better than popularity ({found.transitions:.3f} against "
        f"{found.popularity:.3f}), so there is no order to learn",
        advice=("run `assay diagnose --deep`: it looks for what cures the training",),
    )
    room = 2.0 / weights.num_examples if weights else 0.0
    same = Check(
        name="difference between the recorded best validation and that of the weights handed over",
        value=weights.difference if weights else None,
        unit="",
        limit=Limit(max(limits["same"].value, room), limits["same"].source),
        stage=_place(weights),
        rule="oracle",
        where=f"these weights validate like epoch {weights.nearest_epoch}, the record names "
        f"{weights.best_epoch}"
        if weights
        else "",
        missing=evidence.lacking,
        essential=False,
        explained_by=("stochastic", "state", "batch", "monitoring"),
        advice=("restore the best epoch's weights before evaluating, and validate on val alone",),
    )
    best = Check(
        name="best validation of any epoch minus that of the epoch called best",
        value=weights.shortfall if weights else None,
        unit="",
        limit=limits["best"],
        stage="metric",
        rule="exact",
        missing=evidence.lacking,
        essential=False,
        explained_by=("monitoring",),
        advice=("compare epochs by the monitored metric, larger is better",),
    )
    return QUESTION.finding(evidence, share, same, best, _reported(evidence, limits))


def _reported(evidence: Evidence, limits: Limits) -> Check:
    """The test metrics in the report are those of the weights handed over."""
    test = evidence.test
    room = 2.0 / test.num_examples if test else 0.0
    return Check(
        name="difference between reported test metrics and those of the weights handed over",
        value=test.difference if test else None,
        unit="",
        limit=Limit(max(limits["same"].value, room), limits["same"].source),
        stage="metric",
        rule="oracle",
        where=test.worst_metric if test else "",
        missing=evidence.untold,
        essential=False,
        explained_by=("stochastic", "state", "batch", "inference", "split"),
        advice=("evaluate the weights that are kept, once, after training has chosen them",),
    )


def _place(weights: HandedOver | None) -> Stage:
    """Where weights went astray whose validation is not the one on record."""
    if weights is None or weights.shortfall > 0:
        return "metric"
    if weights.record_is_test:
        return "split"
    return "inference" if weights.record_holds else "metric"


QUESTION = Question(
    id="validation_improves",
    number="G21",
    title="Does the model rank better than popularity, and are the best weights the ones kept?",
    stages=("symptom", "inference", "metric", "split"),
    mode="after_training",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
