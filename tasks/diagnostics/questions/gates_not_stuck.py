"""X23. Do gates work, or are they shut, or open for good?

Reads: gate values of every mLSTM, sLSTM, LSTM and GRU cell, recomputed from what the cell is given,
unit by unit and step by step; trained weights where there are any.

Rule: not more than nine tenths of a cell's forget-gate or output-gate values are shut (below 0.01),
not more than nine tenths have a forget gate above 0.9999 together with a shut input gate, and not
more than nine tenths of all sigmoid gates have lost their slope. An open forget gate alone is
healthy: the usual biases of 3 to 6 give 0.95 to 0.998.

Limits: shut at 0.01 a unit forgets 99 % per event, or shows 1 % of its state. Above 0.9999 a
sigmoid has lost all but 1e-4 of its slope. Nine tenths: power-law forget biases leave a part of the
units short-lived by design; healthy cells measured below one half.

The same picture from elsewhere: a saturated input, such as a huge embedding.

It can't tell: gates of cells of other classes.
"""

from __future__ import annotations

from tasks.diagnostics.finding import Finding, Limit, exact
from tasks.diagnostics.measurements import gates
from tasks.diagnostics.measurements.gates import Gates
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Limits, Question

LIMITS = {
    "share": Limit(0.9, "power-law biases shut a part of the units by design, not nearly all")
}


def measure(probe: Probe) -> Gates:
    """Watch gates."""
    return probe.evidence(gates.measure)


def judge(evidence: Gates, limits: Limits) -> Finding:
    """Neither shut nor stuck."""
    limit, where = limits["share"], evidence.worst_cell
    closed = exact(
        "largest share of forget-gate values below 0.01",
        evidence.forget_closed,
        limit,
        "activation",
        "raise the forget-gate bias (3 to 6 for mLSTM, power law for sLSTM)",
        where=where,
    )
    output = exact(
        "largest share of output-gate values below 0.01",
        evidence.output_closed,
        limit,
        "activation",
        "start the output-gate bias at 0",
        where=where,
        proof="the cells have no output gate of their own"
        if evidence.output_closed is None
        else "",
    )
    stuck = exact(
        "largest share of values with the forget gate above 0.9999 and the input gate below 0.01",
        evidence.stuck,
        limit,
        "activation",
        "lower the forget-gate bias or raise the input-gate bias",
        where=where,
    )
    flat = exact(
        "largest share of sigmoid gates with a slope below 0.001",
        evidence.flat,
        limit,
        "activation",
        "lower the scale of what the gates read: weights, embedding, or a missing norm",
        where=where,
        explained_by=("embedding", "learning_rate"),
    )
    return QUESTION.finding(evidence, closed, output, stuck, flat)


QUESTION = Question(
    id="gates_not_stuck",
    number="X23",
    title="Do gates work, or are they shut, or open for good?",
    stages=("activation",),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
