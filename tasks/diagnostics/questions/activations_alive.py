"""G9. Do features vary with the input, and are they away from their bounds?

Reads: what every weight-bearing layer reads at real positions, with trained weights where there
are any, else new ones.

Rule: not more than half of a layer's input features are constant over positions; not more than
four fifths of a layer's bounded inputs lie beyond 0.99.

Limits: constant means a spread of 1e-6 of the layer's scale: float resolution. Half the features
dead is the published limit of dead units (SageMaker Debugger 50 %, TheDeepChecker 50 %); it is far
above ReLU's usual sparsity, which moves with the input and is not constant. Beyond 0.99 tanh has
lost 98 % of its slope; 80 % of values there is the published limit of TheDeepChecker.

The same picture from elsewhere: an embedding that can't tell items apart, or a core that ignores
its input, starves every layer behind it.

It can't tell: gate saturation inside fused recurrent kernels (`gates_not_stuck`).
"""

from __future__ import annotations

from tasks.diagnostics.finding import Finding, Limit, exact
from tasks.diagnostics.measurements import activation_ranges
from tasks.diagnostics.measurements.activation_ranges import ActivationRanges
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Limits, Question

LIMITS = {
    "constant": Limit(0.5, "published limit of dead units; constant up to float resolution"),
    "saturated": Limit(0.8, "published limit of saturation; tanh keeps 2 % of its slope there"),
}


def measure(probe: Probe) -> ActivationRanges:
    """Watch layer inputs."""
    return probe.evidence(activation_ranges.measure)


def judge(evidence: ActivationRanges, limits: Limits) -> Finding:
    """Features move, and not only between their bounds."""
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
    return QUESTION.finding(evidence, constant, saturated)


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
