"""G8. Do all layers fit together, at the declared size and at every other legal one?

Reads: forward and backward passes for batches of one row, one position and odd shapes, and for
every variant of the settings the program says it can be built with.

Rule: everything builds, runs both ways, and gives finite scores (B, S, num_items + 1). A crash
under a legal size is the program's fault. Exact.

Limits: zero failures.

The same picture from elsewhere: non-finite scores at usual sizes (`weights_move_and_stay_finite`).

It can't tell: whether a size is a good one.
"""

from __future__ import annotations

from tasks.diagnostics.finding import Finding, Limit, exact
from tasks.diagnostics.measurements import dims_sweep
from tasks.diagnostics.measurements.dims_sweep import DimsSweep
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Limits, Question

LIMITS = {"failures": Limit(0, "contract: every legal size builds and runs")}


def measure(probe: Probe) -> DimsSweep:
    """Try shapes and settings."""
    return probe.evidence(dims_sweep.measure)


def judge(evidence: DimsSweep, limits: Limits) -> Finding:
    """No failure."""
    failures = exact(
        "number of legal sizes that fail to build or run",
        evidence.failures,
        limits["failures"],
        "dims",
        f"build and run the model with {evidence.first_failure or 'the failing size'}",
        "compute widths with rounding up and at least 1; test kernel 1 and odd sizes",
        unit="sizes",
        where=evidence.first_failure,
        explained_by=("numeric", "batch"),
    )
    return QUESTION.finding(evidence, failures)


QUESTION = Question(
    id="dimensions_fit",
    number="G8",
    title="Do all layers fit together, at the declared size and at every other legal one?",
    stages=("dims",),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
    owns=frozenset({"build_model", "logits"}),
)
