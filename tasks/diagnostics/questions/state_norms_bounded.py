"""X19. Do hidden states keep their size along a sequence, also one longer than in training?

Reads: norms of every recurrent part's output by position, with trained weights where there are any;
how far scores of users lie apart, by position, with new ones; scores of a sequence four times the
declared length.

Rule: the median norm at the last position is neither a thousand times nor a thousandth of that at
the first; over n positions, the spread of scores between users changes by less than a factor n; the
long sequence gives finite scores.

Limits: a thousand over a training window: healthy cells measured 0.3 to 30, as states fill up. A
growth of that size would overflow float32 within a few windows. Sums and means over n events change
a spread by a power of n between -1 and 1 (247 healthy programs measured -0.16 to 0.35); what is
multiplied at every position goes beyond.

The same picture from elsewhere: cells that do not follow their equations.

It can't tell: norms in parts of unknown classes; sequences a model refuses by its declared length;
the spread of scores that move along a single direction, as those of two normalised features do.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.diagnostics.finding import Check, Finding, Limit, exact
from tasks.diagnostics.measurements import spread_by_position, state_norms
from tasks.diagnostics.measurements.spread_by_position import SpreadByPosition
from tasks.diagnostics.measurements.state_norms import StateNorms
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotApplicableError, NotMeasuredError
from tasks.diagnostics.question import Limits, Question

LIMITS = {
    "growth": Limit(1e3, "healthy cells measured 0.3 to 30; float32 ends at 1e38"),
    "shrinkage": Limit(1e-3, "healthy cells measured 0.3 to 30"),
    "finite": Limit(0, "a NaN or infinity spreads to everything after it"),
    "grows": Limit(1.0, "a sum over n events grows by n at most"),
    "fades": Limit(-1.0, "a mean over n events fades by n at most"),
}

CAUSES = ("cell", "residual", "embedding", "core")


@dataclass(frozen=True)
class Evidence:
    """Norms inside, and what of them reaches the scores."""

    norms: StateNorms | None
    no_norms: str = ""
    spread: SpreadByPosition | None = None
    no_spread: str = ""


def measure(probe: Probe) -> Evidence:
    """Watch norms and scores.

    Raises:
        NotApplicableError: The model has no recurrent part, and nothing is wrong with its scores.
    """
    spread, no_spread = None, ""
    try:
        spread = probe.evidence(spread_by_position.measure)
    except NotMeasuredError as error:
        no_spread = str(error)
    try:
        return Evidence(probe.evidence(state_norms.measure), "", spread, no_spread)
    except NotApplicableError as error:
        if spread is None:
            raise
        return Evidence(None, str(error), spread)


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """Bounded, and finite far out."""
    checks = [*_spread(evidence, limits), *_norms(evidence.norms, evidence.no_norms, limits)]
    return QUESTION.finding(evidence, *checks)


def _spread(evidence: Evidence, limits: Limits) -> list[Check]:
    def along(name: str, limit: str, advice: str, relation: str) -> Check:
        return exact(
            name,
            None if evidence.spread is None else evidence.spread.power,
            limits[limit],
            "numeric",
            advice,
            unit="of the number of positions",
            relation=relation,
            missing=evidence.no_spread,
            essential=False,
            explained_by=(*CAUSES, "activation", "causal", "batch"),
        )

    return [
        along(
            "power by which scores of users draw apart along a window",
            "grows",
            "look for a factor above 1 that is applied at every position",
            "at_most",
        ),
        along(
            "power by which scores of users come together along a window",
            "fades",
            "look for a factor below 1 that is applied at every position",
            "at_least",
        ),
    ]


def _norms(evidence: StateNorms | None, proof: str, limits: Limits) -> list[Check]:
    growth = exact(
        "largest norm of a state at the last position over that at the first",
        None if evidence is None else evidence.growth,
        limits["growth"],
        "numeric",
        "check normaliser and stabiliser of the cell, and forget gates above 1",
        where="" if evidence is None else evidence.worst_part,
        proof=proof,
        explained_by=CAUSES,
    )
    shrinkage = exact(
        "smallest norm of a state at the last position over that at the first",
        None if evidence is None else evidence.shrinkage,
        limits["shrinkage"],
        "numeric",
        "check forget and output gates: does the state fade?",
        where="" if evidence is None else evidence.worst_part,
        proof=proof,
        relation="at_least",
        explained_by=(*CAUSES, "activation"),
    )
    finite = exact(
        "number of scores of a long sequence that are not finite",
        None if evidence is None else evidence.long_not_finite,
        limits["finite"],
        "numeric",
        "subtract a running maximum before every exp (stabiliser m of the cells)",
        unit="scores",
        missing="scores of a sequence longer than declared",
        proof=proof,
        essential=False,
        explained_by=("cell",),
    )
    return [growth, shrinkage, finite]


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
