"""X10. Do the recurrent blocks compute what their published equations say, wired as declared?

Reads: inputs and outputs of every mLSTM, sLSTM, LSTM and GRU block in float64, with shaken weights;
the same from the equations written out position by position (`published_equations`).

Rule: equal. Gates, normalisers, convolution, block-diagonal maps, norms, skips and which gates read
the convolution are all in the comparison. The published sLSTM block feeds i and f from the
convolution and z and o from the raw input; feeding all four is the other declared choice
(`slstm_conv_gates`), and a model that does otherwise than it declares is at fault.

Limits: float64 implementations agree to 1e-12; 1e-4 leaves room for the 1e-6 that some put into a
denominator. Wrong wiring measured 1e-2 and more.

The same picture from elsewhere: values that are not finite; influence between rows or of the
future, which the equations do not have (those stages are blamed first).

It can't tell: cells of other classes, whose equations are not known here.
"""

from __future__ import annotations

from tasks.diagnostics.finding import Finding, Limit, exact
from tasks.diagnostics.measurements import cell_oracle
from tasks.diagnostics.measurements.cell_oracle import CellOracle
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Limits, Question

LIMITS = {"error": Limit(1e-4, "equations in float64, with room for an epsilon of 1e-6")}


def measure(probe: Probe) -> CellOracle:
    """Recompute every block."""
    return probe.evidence(cell_oracle.measure)


def judge(evidence: CellOracle, limits: Limits) -> Finding:
    """Blocks equal their equations."""
    problem = f": {evidence.problem}" if evidence.problem else ""
    error = exact(
        "largest relative difference between a block and its published equations",
        evidence.largest_error,
        limits["error"],
        "cell",
        f"compare {evidence.worst_block or 'the block'} with published_blocks.py part by part: "
        "convolution, gates, state update, normaliser, head norm, skip",
        "check train.xlstm.slstm_conv_gates: the published block feeds i and f from the "
        "convolution, z and o from the raw input",
        where=f"{evidence.worst_block}{problem}",
        explained_by=("batch", "causal", "stochastic", "residual"),
    )
    return QUESTION.finding(evidence, error)


QUESTION = Question(
    id="cells_follow_equations",
    number="X10",
    title="Do the recurrent blocks compute what their published equations say, wired as declared?",
    stages=("cell",),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
