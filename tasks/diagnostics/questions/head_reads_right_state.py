"""X13. Do scores come from the state after each history's last event?

Reads: scores of test users by the program's own path, and of one user at a time without padding,
read after the last event; the same with another last event; the same by a model that has scored
other histories before, or these ones under other weights.

Rule: both agree for short and long histories, another last event gives other scores, and a used
model scores like a new one with the same weights. Exact, for any pooling that the per-position
scores follow.

Limits: 1e-3 of the spread (float32 sums in other batch shapes differ by 1e-6); a last event must
move some score by more than 1e-7 of the spread, the resolution of float32.

The same picture from elsewhere: scores that depend on padding, neighbours, the future, earlier
calls or chance, and histories that are wrong already; those are blamed first.

It can't tell: whether ranks are made rightly of these scores (`ranking_metrics_right`).
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.diagnostics.finding import Check, Finding, Limit, exact
from tasks.diagnostics.measurements import inference_oracle, used_scorer
from tasks.diagnostics.measurements.inference_oracle import InferenceOracle
from tasks.diagnostics.measurements.used_scorer import UsedScorer
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import Limits, Question

LIMITS = {
    "scores": Limit(1e-3, "identity; float32 sums in other batch shapes differ by 1e-6"),
    "last": Limit(1e-7, "resolution of float32: below it there is no influence"),
    "used": Limit(1e-3, "identity; equal calls of equal weights"),
}


@dataclass(frozen=True)
class Evidence:
    """Scoring beside plain inference, and by used models beside new ones."""

    oracle: InferenceOracle
    used: UsedScorer | None = None
    not_used: str = ""
    stateful: bool = False


def measure(probe: Probe) -> Evidence:
    """Score both ways, and again by used models."""
    used, reason = None, ""
    try:
        used = probe.evidence(used_scorer.measure)
    except NotMeasuredError as error:
        reason = str(error)
    oracle = probe.evidence(inference_oracle.measure)
    return Evidence(oracle, used, reason, probe.subject.declared.stateful)


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """Equal scores that follow the last event and nothing that was scored before."""
    checks = (*_plain(evidence.oracle, limits), *_used(evidence, limits))
    return QUESTION.finding(evidence, *checks)


def _used(evidence: Evidence, limits: Limits) -> list[Check]:
    used = evidence.used

    def kept(name: str, value: float | None, advice: str, proof: str = "") -> Check:
        return exact(
            name,
            value,
            limits["used"],
            "inference",
            advice,
            unit="standard deviations of the scores",
            missing=evidence.not_used,
            proof=proof,
            essential=False,
            explained_by=("batch", "state", "stochastic", "embedding"),
        )

    return [
        kept(
            "largest change of a score at evaluation by other histories scored before",
            None if used is None else used.by_earlier_calls,
            "look for results or states that scoring keeps; key them by user and history",
            "state across calls is declared" if evidence.stateful else "",
        ),
        kept(
            "largest change of a score at evaluation by having scored under other weights before",
            None if used is None else used.by_old_weights,
            "drop what scoring keeps when weights change, or keep nothing",
        ),
    ]


def _plain(evidence: InferenceOracle, limits: Limits) -> list[Check]:
    scores = exact(
        "largest difference between scoring at evaluation and plain inference",
        evidence.largest_difference,
        limits["scores"],
        "inference",
        "read scores at position lengths - 1, in eval mode, with the padding side of training",
        unit="standard deviations of the scores",
        where=evidence.first_wrong,
        explained_by=(
            "pad",
            "batch",
            "causal",
            "state",
            "stochastic",
            "split",
            "encode",
            "numeric",
        ),
    )
    last = exact(
        "smallest change of a user's scores by another last event",
        evidence.follows_last_event,
        limits["last"],
        "inference",
        "check that the scored position is the last real one, not the first or a padded one",
        unit="standard deviations of the scores",
        relation="at_least",
        explained_by=("core", "embedding", "cell", "pad"),
    )
    return [scores, last]


QUESTION = Question(
    id="head_reads_right_state",
    number="X13",
    title="Do scores come from the state after each history's last event?",
    stages=("inference",),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
    owns=frozenset({"score", "make_histories"}),
)
