"""G25. Does a known baseline learn a known log through this pipeline?

Reads: a synthetic log whose best possible ranking is known, prepared by the program, and a plain
GRU trained on it by the program's batches, loss, optimiser and steps, and scored by its histories
and scores. Deep: 5 to 20 seconds.

Rule: the GRU reaches at least 0.6 of the best possible gain over popularity within 1000 steps, at
the program's learning rate or ten times more or less. The optimum and popularity are counted from
the log itself, so whatever preparation spoils shows. If the GRU does, pipeline and evaluation are
sound, and a model without skill has itself to blame; if not, look at the pipeline first.

Limits: 0.6: healthy programs measured 0.94, 0.79 at width 8. Two seeds have to reach it.

The same picture from elsewhere: none but what the earlier questions find in the pipeline's parts.

It can't tell: which part of the pipeline is at fault.
"""

from __future__ import annotations

from tasks.diagnostics.finding import Check, Finding, Limit
from tasks.diagnostics.measurements import anchor
from tasks.diagnostics.measurements.anchor import REACHED, Anchor
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Limits, Question

LIMITS = {"share": Limit(REACHED, "healthy programs measured 0.94, 0.79 at width 8")}


def measure(probe: Probe) -> Anchor:
    """Send the known log through."""
    return probe.evidence(anchor.measure)


def judge(evidence: Anchor, limits: Limits) -> Finding:
    """The baseline reaches what is known to be there."""
    share = Check(
        name="share of the best possible gain that a plain GRU reaches on a known log",
        value=evidence.share,
        unit="",
        limit=limits["share"],
        stage="symptom",
        rule="intervention",
        relation="at_least",
        where=f"{evidence.best_rate:g} times the learning rate",
        advice=("the pipeline is at fault, not the model: see the earliest broken question",),
    )
    return QUESTION.finding(evidence, share)


QUESTION = Question(
    id="baseline_confirms_pipeline",
    number="G25",
    title="Does a known baseline learn a known log through this pipeline?",
    stages=("symptom",),
    mode="deep",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
