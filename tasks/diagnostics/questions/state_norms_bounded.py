"""X19. Do hidden states keep their size along a sequence, also one longer than in training?

Reads: norms of every recurrent part's output by position, with trained weights where there are any;
scores of a sequence four times the declared length.

Rule: the median norm at the last position is neither a thousand times nor a thousandth of that at
the first; the long sequence gives finite scores.

Limits: a thousand over a training window: healthy cells measured 0.3 to 30, as states fill up. A
growth of that size would overflow float32 within a few windows.

The same picture from elsewhere: cells that do not follow their equations.

It can't tell: parts of unknown classes; sequences a model refuses by its declared length.
"""

from __future__ import annotations

from tasks.diagnostics.finding import Finding, Limit, exact
from tasks.diagnostics.measurements import state_norms
from tasks.diagnostics.measurements.state_norms import StateNorms
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Limits, Question

LIMITS = {
    "growth": Limit(1e3, "healthy cells measured 0.3 to 30; float32 ends at 1e38"),
    "shrinkage": Limit(1e-3, "healthy cells measured 0.3 to 30"),
    "finite": Limit(0, "a NaN or infinity spreads to everything after it"),
}


def measure(probe: Probe) -> StateNorms:
    """Watch norms."""
    return probe.evidence(state_norms.measure)


def judge(evidence: StateNorms, limits: Limits) -> Finding:
    """Bounded, and finite far out."""
    causes = ("cell", "residual", "embedding", "core")
    growth = exact(
        "largest norm of a state at the last position over that at the first",
        evidence.growth,
        limits["growth"],
        "numeric",
        "check normaliser and stabiliser of the cell, and forget gates above 1",
        where=evidence.worst_part,
        explained_by=causes,
    )
    shrinkage = exact(
        "smallest norm of a state at the last position over that at the first",
        evidence.shrinkage,
        limits["shrinkage"],
        "numeric",
        "check forget and output gates: does the state fade?",
        where=evidence.worst_part,
        relation="at_least",
        explained_by=(*causes, "activation"),
    )
    finite = exact(
        "number of scores of a long sequence that are not finite",
        evidence.long_not_finite,
        limits["finite"],
        "numeric",
        "subtract a running maximum before every exp (stabiliser m of the cells)",
        unit="scores",
        missing="scores of a sequence longer than declared",
        essential=False,
        explained_by=("cell",),
    )
    return QUESTION.finding(evidence, growth, shrinkage, finite)


QUESTION = Question(
    id="state_norms_bounded",
    number="X19",
    title="Do hidden states keep their size along a sequence, also one longer than in training?",
    stages=("numeric",),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
