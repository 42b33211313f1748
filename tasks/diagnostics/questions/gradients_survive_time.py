"""X11. Does the last score's gradient reach events far back?

Reads: the gradient of the last scores by the embedded history, event by event; the influence of the
farthest event on those scores.

Rule: where the farthest event has an influence on the score, it has a gradient. An influence
without gradient is a detached state; neither is a core without memory. Exact: how fast the gradient
falls with the lag is reported and not judged, since it depends on the data's own time scale.

Limits: 1e-9 of the gradient at the last event: float32 products over 24 positions of any healthy
gate stay above; a detached state gives exactly 0. An influence below 1e-6 is float32 resolution.

The same picture from elsewhere: a core that forgets everything at once (`order_and_flow`).

It can't tell: whether the model learns to use distant events.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.diagnostics.finding import Finding, Limit, exact
from tasks.diagnostics.measurements import gradient_by_lag
from tasks.diagnostics.measurements.gradient_by_lag import GradientByLag
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Limits, Question, quantity

LIMITS = {
    "gradient": Limit(1e-9, "a detached state gives exactly 0; healthy gates stay above"),
    "influence": Limit(1e-6, "resolution of float32"),
}


@dataclass(frozen=True)
class Evidence:
    """Gradient and influence by lag."""

    lags: GradientByLag
    reads_history: bool = quantity("scores are declared to depend on more than the last event")


def measure(probe: Probe) -> Evidence:
    """Differentiate by the past."""
    return Evidence(
        lags=probe.evidence(gradient_by_lag.measure),
        reads_history=probe.subject.declared.reads_history,
    )


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """Influence comes with a gradient."""
    lags = evidence.lags
    influences = lags.influence > limits["influence"].value
    reason = "" if evidence.reads_history else "the model is declared to read the last event only"
    gradient = exact(
        f"gradient {lags.lag} events back over the gradient at the last event",
        lags.at_lag,
        limits["gradient"],
        "gradient_flow",
        "remove .detach() between positions, or declare truncated backpropagation",
        relation="at_least",
        proof=reason
        or ("" if influences else "an event that far back has no influence either")
        or ("" if lags.at_zero > 0 else "the last event has no gradient either (`gradients_flow`)"),
    )
    influence = exact(
        f"influence of an event {lags.lag} events back over that of the last event",
        lags.influence,
        limits["influence"],
        "core",
        "raise the forget gates' bias (train.xlstm), check that states are carried on",
        relation="at_least",
        breach="suspect",
        proof=reason,
        explained_by=("cell", "embedding", "state"),
    )
    return QUESTION.finding(evidence, gradient, influence)


QUESTION = Question(
    id="gradients_survive_time",
    number="X11",
    title="Does the last score's gradient reach events far back?",
    stages=("gradient_flow", "core"),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
