"""G12. Does every block add its result to what it was given?

Reads: the residual stream before and after each block of the model's stack, with that block's
parameters set to zero.

Rule: a block without weights adds nothing, so the stream has to come out as it went in. One block
at a time: with all of them zeroed, a stack that adds its very first input to every block looks
right. Exact.

Limits: float32 rounding, 1e-7 of the stream; 1e-4 leaves three orders.

The same picture from elsewhere: a block with biases after its last product would add them; all
parameters are zeroed, biases included.

It can't tell: whether the block's own result is right (`cells_follow_equations`). Models without
a stack of shape-keeping blocks have no residuals to judge; where none are declared, only an
inconsistent stack (some blocks pass, some do not) is a fault.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.diagnostics.finding import Finding, Limit, exact
from tasks.diagnostics.measurements import residuals
from tasks.diagnostics.measurements.residuals import Residuals
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Limits, Question, quantity

LIMITS = {"error": Limit(1e-4, "identity; float32 rounding is 1e-7 of the stream")}


@dataclass(frozen=True)
class Evidence:
    """The stream through emptied blocks."""

    residuals: Residuals
    is_declared: bool = quantity("residual connections are declared")


def measure(probe: Probe) -> Evidence:
    """Empty one block at a time."""
    return Evidence(
        residuals=probe.evidence(residuals.measure),
        is_declared=probe.subject.declared.residual,
    )


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """The stream passes every emptied block unchanged."""
    found = evidence.residuals
    none = not evidence.is_declared and found.blocks_passing == 0
    passed = exact(
        "largest change of the residual stream by a block without weights",
        found.largest_error,
        limits["error"],
        "residual",
        "write x = x + block(x) with the x of this block, not of the first one",
        unit="of the stream",
        where=found.worst_block,
        proof="no residual connection is declared and none is found" if none else "",
    )
    return QUESTION.finding(evidence, passed)


QUESTION = Question(
    id="residuals_add",
    number="G12",
    title="Does every block add its result to what it was given?",
    stages=("residual",),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
