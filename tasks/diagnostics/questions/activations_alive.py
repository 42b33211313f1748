"""G9. Do features vary with the input, and are they away from their bounds?

Reads: what every weight-bearing layer reads at real positions, with trained weights where there
are any, else new ones.

Rule: not more than three quarters of a layer's input features are constant over positions; not more
than four fifths of a layer's bounded inputs lie beyond 0.99; small changes of the embedded history
move the scores in proportion to large ones, within a factor of a thousand: units that are shut do
not answer them, chaotic recurrences magnify them.

Limits: constant means a spread of 1e-6 of the layer's scale: float resolution. Half of the features
dead is the published limit of dead units (SageMaker Debugger, TheDeepChecker), and what a healthy
ReLU over small inputs starts at (measured: 53 %); three quarters leaves room for chance. Beyond
0.99 tanh has lost 98 % of its slope; 80 % of values there is the published limit of TheDeepChecker.

The same picture from elsewhere: an embedding that can't tell items apart, or a core that ignores
its input, starves every layer behind it.

It can't tell: gate saturation inside fused recurrent kernels (`gates_not_stuck`).
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.diagnostics.finding import Check, Finding, Limit, exact
from tasks.diagnostics.measurements import activation_ranges, response
from tasks.diagnostics.measurements.activation_ranges import ActivationRanges
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotApplicableError, NotMeasuredError
from tasks.diagnostics.question import Limits, Question, quantity

LIMITS = {
    "constant": Limit(0.75, "a ReLU over features centred at 0 starts with half of them shut"),
    "dead": Limit(1e-3, "seven healthy models measured 0.5 to 2; saturated ones 1e-5 and less"),
    "chaotic": Limit(1e3, "seven healthy models measured 0.5 to 2; chaotic ones 2e4 and more"),
    "saturated": Limit(0.8, "published limit of saturation; tanh keeps 2 % of its slope there"),
}


@dataclass(frozen=True)
class Evidence:
    """Features, and how scores answer small changes."""

    ranges: ActivationRanges
    response: float | None = quantity("response to a small change over that to a large one")
    no_response: str = ""


def measure(probe: Probe) -> Evidence:
    """Watch layer inputs, nudge the embedded history."""
    found, reason = None, ""
    try:
        found = probe.evidence(response.measure).ratio
    except (NotApplicableError, NotMeasuredError) as error:
        reason = str(error)
    return Evidence(probe.evidence(activation_ranges.measure), found, reason)


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """Features move, not only between their bounds, and scores answer them in proportion."""

    def answers(name: str, limit: str, advice: str, **more: object) -> Check:
        return exact(
            name,
            evidence.response,
            limits[limit],
            "activation",
            advice,
            missing=evidence.no_response,
            essential=False,
            explained_by=("gradient_flow", "embedding", "core", "cell"),
            **more,
        )

    return QUESTION.finding(
        evidence,
        *_features(evidence.ranges, limits),
        answers(
            "response of the scores to small changes of the history over that to large ones",
            "dead",
            "find the activation that is shut at usual inputs: a factor inside tanh or sigmoid, "
            "a rounding, a threshold",
            relation="at_least",
        ),
        answers(
            "response of the scores to small changes of the history compared with large ones",
            "chaotic",
            "lower the initial scale of recurrent weights: small changes grow along the sequence",
        ),
    )


def _features(evidence: ActivationRanges, limits: Limits) -> list[Check]:
    constant = exact(
        "largest share of a layer's input features that never change",
        evidence.constant_share,
        limits["constant"],
        "activation",
        f"look at the activation before {evidence.constant_layer}: a dead ReLU, a large negative "
        "bias, a detached or zeroed branch",
        where=evidence.constant_layer,
        explained_by=("embedding", "core", "cell"),
    )
    saturated = exact(
        "largest share of a layer's bounded inputs beyond 0.99",
        evidence.saturated_share,
        limits["saturated"],
        "activation",
        f"lower the scale of what is squashed before {evidence.saturated_layer}: initial weights, "
        "embedding scale, a factor inside tanh or sigmoid",
        where=evidence.saturated_layer,
    )
    return [constant, saturated]


QUESTION = Question(
    id="activations_alive",
    number="G9",
    title="Do features vary with the input, and are they away from their bounds?",
    stages=("activation",),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
