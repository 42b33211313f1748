"""X22. Do results differ between users and between positions, in more than one direction?

Reads: scores of several users over several positions, with trained weights where there are any.

Rule: a share of the scores' variance lies between users and a share between positions, and the
centred scores span more than one direction. Exact for constant scores: they have no variance.

Limits: 1e-3 of the variance: healthy untrained models measured 0.1 and more; a state broadcast to
all users or positions gives 0. Effective rank 1.5 (Roy and Vetterli 2007): between one direction
and two equal ones.

The same picture from elsewhere: embeddings that are all alike; a core whose result is not used.

It can't tell: which state degenerates; `cells_follow_equations` and `gates_not_stuck` look inside.
"""

from __future__ import annotations

from tasks.diagnostics.finding import Finding, Limit, exact
from tasks.diagnostics.measurements import score_variety
from tasks.diagnostics.measurements.score_variety import ScoreVariety
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Limits, Question

LIMITS = {
    "variance": Limit(1e-3, "a broadcast state gives 0, healthy models 0.1 and more"),
    "rank": Limit(1.5, "between one direction and two equal ones"),
}


def measure(probe: Probe) -> ScoreVariety:
    """Compare users and positions."""
    return probe.evidence(score_variety.measure)


def judge(evidence: ScoreVariety, limits: Limits) -> Finding:
    """Results vary."""
    causes = ("embedding", "cell", "batch", "causal")
    users = exact(
        "share of the scores' variance that lies between users",
        evidence.over_users,
        limits["variance"],
        "core",
        "look for a state or mean of shape (1, ...) broadcast over the batch",
        relation="at_least",
        explained_by=causes,
    )
    time = exact(
        "share of the scores' variance that lies between positions",
        evidence.over_time,
        limits["variance"],
        "core",
        "look for a mean over time or a state that never changes",
        relation="at_least",
        explained_by=causes,
    )
    rank = exact(
        "number of directions the scores span",
        evidence.effective_rank,
        limits["rank"],
        "core",
        "look for a width of 1, a constant embedding, or one unit that outgrows all others",
        relation="at_least",
        breach="suspect",
        explained_by=causes,
    )
    return QUESTION.finding(evidence, users, time, rank)


QUESTION = Question(
    id="states_not_degenerate",
    number="X22",
    title="Do results differ between users and between positions, in more than one direction?",
    stages=("core",),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
