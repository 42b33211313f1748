"""G6. Are training, validation and test data prepared and scored in one and the same way?

Reads: the encoding of every split joined with the log; a second preparation in which held-out
items were exchanged; the scores of test users by the program's path and by plain inference; the
log prepared twice and the first batches of an epoch made twice.

Rule: a raw item has one id in every split; exchanging held-out items leaves every training array
byte-identical (an intervention on nothing but held-out rows); the history a user is scored on is
the user's own, as the split says, and its score is that of plain, unpadded inference; the same log
is prepared the same again, and so are the batches of a seed and an epoch.

Limits: zero for ids, arrays and histories; 1e-3 of the spread for scores (float32 sums in other
batch shapes differ by 1e-6).

The same picture from elsewhere: a model whose scores depend on padding, neighbours or the future
scores differently in a batch; those stages are blamed first.

It can't tell: whether a rule declared to see the whole log (corpus, vocabulary) should.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.diagnostics.finding import Check, Finding, Limit, exact
from tasks.diagnostics.measurements import (
    deletion,
    id_map,
    inference_oracle,
    log_coverage,
    repeated_batches,
    repeated_preparation,
)
from tasks.diagnostics.measurements.deletion import Deletion
from tasks.diagnostics.measurements.id_map import IdMap
from tasks.diagnostics.measurements.inference_oracle import InferenceOracle
from tasks.diagnostics.measurements.repeated_batches import RepeatedBatches
from tasks.diagnostics.measurements.repeated_preparation import RepeatedPreparation
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotApplicableError, NotMeasuredError, NotOfferedError
from tasks.diagnostics.question import Limits, Question, quantity

LIMITS = {
    "count": Limit(0, "identity: one preparation for all splits"),
    "scores": Limit(1e-3, "identity; float32 sums in other batch shapes differ by 1e-6"),
}
NOT_OF_TRAINING = "the vocabulary is not declared to come from training rows"
MIXED_OR_WRONG = ("pad", "batch", "causal", "state", "stochastic", "split", "encode", "numeric")
"""Stages whose faults make scores differ from plain inference as well."""


@dataclass(frozen=True)
class Evidence:
    """Ids, an intervention on held-out rows, and scores both ways."""

    ids: IdMap
    inference: InferenceOracle
    deletion: Deletion | None
    no_deletion: str
    repeated: RepeatedBatches
    again: RepeatedPreparation | None
    not_again: str
    lost_events: int | None = quantity("events of the log in no sequence, without a filter")


def measure(probe: Probe) -> Evidence:
    """Compare splits, prepare again with exchanged held-out items, score both ways."""
    found, reason = None, ""
    try:
        found = probe.evidence(deletion.measure)
    except (NotOfferedError, NotApplicableError, NotMeasuredError) as error:
        reason = str(error)
    try:
        lost = probe.evidence(log_coverage.measure).lost_events
    except (NotOfferedError, NotApplicableError, NotMeasuredError):
        lost = None
    again, not_again = None, ""
    try:
        again = probe.evidence(repeated_preparation.measure)
    except (NotOfferedError, NotMeasuredError) as error:
        not_again = str(error)
    return Evidence(
        ids=probe.evidence(id_map.measure),
        inference=probe.evidence(inference_oracle.measure),
        deletion=found,
        no_deletion=reason,
        repeated=probe.evidence(repeated_batches.measure),
        again=again,
        not_again=not_again,
        lost_events=lost,
    )


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """One id per item, no trace of held-out rows, one way of scoring."""
    return QUESTION.finding(
        evidence,
        *_preparation(evidence, limits),
        *_scoring(evidence.inference, limits),
        *_made_again(evidence, limits),
    )


def _preparation(evidence: Evidence, limits: Limits) -> list[Check]:
    """One vocabulary and one filter for all splits, made without held-out rows."""
    unseen = None if evidence.deletion is None else evidence.deletion.unseen_ids
    return [
        exact(
            "number of held-out events encoded otherwise than in training",
            evidence.ids.held_out_disagreements,
            limits["count"],
            "encode",
            "fit one vocabulary and use it for every split (tasks/data/encoding.py)",
            unit="events",
        ),
        exact(
            "number of events of the log that are in no split, without a declared filter",
            evidence.lost_events,
            limits["count"],
            "split",
            "apply one and the same filter to training and held-out events",
            unit="events",
            missing="declared filters that can be applied again",
            essential=False,
            explained_by=("time", "encode", "order"),
        ),
        exact(
            "number of ids of items without a training event",
            unseen,
            limits["count"],
            "split",
            "build the vocabulary of training rows, as data.vocabulary declares",
            unit="ids",
            proof=NOT_OF_TRAINING if unseen is None else "",
        ),
        _intervention(evidence, limits),
    ]


def _scoring(inference: InferenceOracle, limits: Limits) -> list[Check]:
    """Test users are scored on their own histories, as plain inference scores them."""
    return [
        exact(
            "number of histories at scoring that are not those the split gives",
            inference.wrong_histories,
            limits["count"],
            "split" if inference.knows_targets else "inference",
            "compare make_histories with training plus held-out events of one user",
            unit="histories",
            where=inference.first_wrong,
            explained_by=("encode", "pad"),
        ),
        exact(
            "largest difference between scoring at evaluation and plain inference",
            inference.largest_difference,
            limits["scores"],
            "inference",
            "check eval mode, the position scores are read from and the padding side at scoring",
            unit="standard deviations of the scores",
            explained_by=MIXED_OR_WRONG,
        ),
    ]


def _made_again(evidence: Evidence, limits: Limits) -> list[Check]:
    """The same log, seed and epoch give the same data."""
    again = evidence.again
    return [
        exact(
            "number of batches that differ when the same seed and epoch make them again",
            evidence.repeated.different,
            limits["count"],
            "stochastic",
            "derive the order of windows from seed and epoch; seed the workers of a loader",
            unit="batches",
        ),
        exact(
            "number of prepared arrays that differ when the same log is prepared again",
            again.different if again else None,
            limits["count"],
            "stochastic",
            "sort stably by user, time and row; number sorted ids; draw nothing without a seed",
            unit="arrays",
            where=again.first_different if again else "",
            missing=evidence.not_again,
            essential=False,
        ),
    ]


def _intervention(evidence: Evidence, limits: Limits) -> Check:
    found = evidence.deletion
    value = None
    if found is not None:
        value = found.changed_by_exchange + (found.changed_by_flooding or 0)
    return Check(
        name="number of training arrays that change when held-out items are exchanged",
        value=value,
        unit="arrays",
        limit=limits["count"],
        stage="split",
        rule="intervention",
        where="" if found is None else found.first_changed,
        missing=evidence.no_deletion,
        essential=False,
        explained_by=("stochastic",),
        advice=("fit filters, vocabularies and statistics on training rows alone",),
    )


QUESTION = Question(
    id="preprocessing_same_everywhere",
    number="G6",
    title="Are training, validation and test data prepared and scored in one and the same way?",
    stages=("encode", "split", "inference", "stochastic"),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
