"""G2. Do inputs and targets belong together, and does training know nothing of what is held out?

Reads: every training window beside the prepared sequences; held-out rows beside training rows and
histories.

Rule: a window is a run of consecutive events of one user and each target is the event right after
its input; no held-out row is a training row or part of its own history, or held out twice; held-out
rows are their user's own; no target is earlier than its history, and none of validation later than
the user's test target; under a temporal split no training event is later than the first target. All
exact. In the deep mode, a training on targets that were exchanged over the whole training set ranks
test targets that are new to their users no better than popularity and the untrained model do (two
seeds): skill that needs no link between inputs and targets comes from somewhere else.

Limits: zero; a quarter of the gain of transition counts for random targets, as much as a training
with skill needs in `validation_improves`. Rows identify events: repeats of an item and equal times
are no leak. Under leave-one-out, training events of other users later than a test event are normal
(Ji et al. 2020); their share is reported and not judged.

The same picture from elsewhere: sequences out of order (`events_in_time_order`) leave inputs and
targets consecutive, so they do not show here.

It can't tell: without the deep mode, whether targets could be learned from something else than the
inputs.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.diagnostics.finding import Check, Finding, Limit, exact
from tasks.diagnostics.measurements import (
    inference_oracle,
    random_labels,
    split_overlap,
    window_match,
)
from tasks.diagnostics.measurements.random_labels import SUSPICIOUS, RandomLabels
from tasks.diagnostics.measurements.split_overlap import SplitOverlap
from tasks.diagnostics.measurements.window_match import WindowMatch
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import (
    NotApplicableError,
    NotMeasuredError,
    NotOfferedError,
    SubjectError,
)
from tasks.diagnostics.question import Limits, Question, quantity
from tasks.diagnostics.stages import STAGES, Stage

LIMITS = {
    "count": Limit(0, "identity of consecutive rows of one user"),
    "random": Limit(SUSPICIOUS, "random targets teach nothing; skill begins at this share"),
}
ELSEWHERE: tuple[Stage, ...] = tuple(stage for stage in STAGES if stage not in ("split", "symptom"))
"""Any other fault that is seen explains skill without a link better."""


@dataclass(frozen=True)
class Evidence:
    """Windows and splits."""

    windows: WindowMatch
    split: SplitOverlap
    is_temporal: bool
    shown_targets: int | None = quantity("histories at scoring that end with their target")
    random: RandomLabels | None = None
    no_random: str = ""
    nothing_to_learn: str = ""


def measure(probe: Probe) -> Evidence:
    """Look every window up; compare held-out rows with what training knows."""
    try:
        inference = probe.evidence(inference_oracle.measure)
        shown = inference.target_last if inference.knows_targets else 0
    except (NotOfferedError, NotMeasuredError):
        shown = None
    trained, lacking, proof = None, "", ""
    try:
        trained = probe.evidence(random_labels.measure)
    except NotApplicableError as reason:
        proof = str(reason)
    except (NotOfferedError, NotMeasuredError, SubjectError) as reason:
        lacking = str(reason)
    return Evidence(
        windows=probe.evidence(window_match.measure),
        split=probe.evidence(split_overlap.measure),
        is_temporal=probe.subject.declared.split == "temporal",
        shown_targets=shown,
        random=trained,
        no_random=lacking,
        nothing_to_learn=proof,
    )


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """No window, target or held-out row out of place."""
    windows, limit = evidence.windows, limits["count"]
    targets = exact(
        "number of targets that are not the event right after their input",
        windows.wrong_targets,
        limit,
        "align",
        "print one row: targets[t] has to equal item_ids[t + 1] (tasks/training/batches.py)",
        unit="targets",
        where=windows.first_wrong,
        explained_by=("format", "split"),
    )
    foreign = exact(
        "number of windows that are no run of consecutive events of their user",
        windows.foreign_rows,
        limit,
        "format",
        "decode one row and compare it with the user's events in the log",
        unit="windows",
        where=windows.first_foreign,
        explained_by=("pad",),
    )
    leaking = exact(
        "number of windows that hold held-out events of their user",
        windows.leaking_rows,
        limit,
        "split",
        "cut windows from training events alone",
        unit="windows",
        where=windows.first_leak,
        explained_by=("format",),
    )
    return QUESTION.finding(
        evidence,
        targets,
        foreign,
        leaking,
        *_known(evidence, limit),
        *_apart(evidence.split, limit),
        *_in_time(evidence, limit),
        _by_random(evidence, limits),
    )


def _by_random(evidence: Evidence, limits: Limits) -> Check:
    """Random targets teach nothing."""
    found = evidence.random
    return Check(
        name="gain of transition counts reached by training on targets exchanged at random",
        value=found.share if found else None,
        unit="",
        limit=limits["random"],
        stage="split",
        rule="intervention",
        p_value=found.p_of_gain if found else None,
        missing=evidence.no_random,
        proof=evidence.nothing_to_learn,
        essential=False,
        explained_by=ELSEWHERE,
        advice=("look at what scoring reads besides the history: targets, test events, own files",),
    )


def _known(evidence: Evidence, limit: Limit) -> tuple[Check, Check]:
    """No held-out event is known to training, or to the history it is predicted from."""
    split = evidence.split
    known = exact(
        "number of held-out events that training or their own history knows",
        split.heldout_in_training + split.target_in_history,
        limit,
        "split",
        "remove held-out rows from training before windows are cut (tasks/data/splits.py)",
        unit="events",
        where=split.first_leak,
    )
    shown = exact(
        "number of histories at scoring that end with the event to predict",
        evidence.shown_targets,
        limit,
        "split",
        "end histories before the target (make_histories)",
        unit="histories",
        missing="`make_histories` and `score`",
        essential=False,
    )
    return known, shown


def _apart(split: SplitOverlap, limit: Limit) -> tuple[Check, Check]:
    """Every event is held out once, and for its own user."""
    twice = exact(
        "number of events that are the target of more than one example",
        split.held_out_twice,
        limit,
        "split",
        "hold every event out once: what validation chose by is no test (tasks/data/splits.py)",
        unit="events",
        where=split.first_twice,
        explained_by=("order", "time"),
    )
    others = exact(
        "number of held-out events that the log gives to another user",
        split.of_other_users,
        limit,
        "split",
        "keep users, targets and histories of an example together when examples are reordered",
        unit="events",
        where=split.first_other,
        explained_by=("order", "encode"),
    )
    return twice, others


def _in_time(evidence: Evidence, limit: Limit) -> tuple[Check, Check, Check]:
    """Targets come after what they are predicted from, and test after validation."""
    split = evidence.split
    early = exact(
        "number of targets earlier than the history they are predicted from",
        split.target_before_history,
        limit,
        "split",
        "hold out the last events by time, not random ones",
        unit="targets",
        explained_by=("order", "time"),
    )
    after = exact(
        "number of users whose validation target is later than their test target",
        split.val_after_test,
        limit,
        "split",
        "validate on what comes before the test: choose by the past, test on the future",
        unit="users",
        explained_by=("order", "time"),
    )
    late = exact(
        "number of training events later than the first held-out target",
        split.training_after_boundary,
        limit,
        "split",
        "cut training at the boundary of the temporal split",
        unit="events",
        proof="" if evidence.is_temporal else "the split is per user, not by time",
    )
    return early, after, late


QUESTION = Question(
    id="inputs_match_targets",
    number="G2",
    title="Do inputs and targets belong together, and does training know nothing held out?",
    stages=("align", "format", "split"),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
