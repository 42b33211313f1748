"""X13. Do scores come from the state after each history's last event?

Reads: scores of test users by the program's own path, and of one user at a time without padding,
read after the last event; the same with another last event.

Rule: both agree for short and long histories, and another last event gives other scores. Exact, for
any pooling that the per-position scores follow.

Limits: 1e-3 of the spread (float32 sums in other batch shapes differ by 1e-6); a last event must
move some score by more than 1e-7 of the spread, the resolution of float32.

The same picture from elsewhere: scores that depend on padding, neighbours, the future, earlier
calls or chance, and histories that are wrong already; those are blamed first.

It can't tell: whether ranks are made rightly of these scores (`ranking_metrics_right`).
"""

from __future__ import annotations

from tasks.diagnostics.finding import Finding, Limit, exact
from tasks.diagnostics.measurements import inference_oracle
from tasks.diagnostics.measurements.inference_oracle import InferenceOracle
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Limits, Question

LIMITS = {
    "scores": Limit(1e-3, "identity; float32 sums in other batch shapes differ by 1e-6"),
    "last": Limit(1e-7, "resolution of float32: below it there is no influence"),
}


def measure(probe: Probe) -> InferenceOracle:
    """Score both ways."""
    return probe.evidence(inference_oracle.measure)


def judge(evidence: InferenceOracle, limits: Limits) -> Finding:
    """Equal scores that follow the last event."""
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
    return QUESTION.finding(evidence, scores, last)


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
