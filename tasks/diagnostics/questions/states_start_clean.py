"""X8. Do hidden and cell states start clean, once per user, and end with the call?

Reads: repeated calls; other users changed in both batch directions; every part with explicit
states, run whole, in two pieces, and step by step.

Rule: equal calls give equal scores whatever came before, in eval and in training mode, whatever
weights the model had then, and whatever the random state; a first
state is 0 (or -inf for a log scale) or a parameter, one per sample; going on from a returned state
equals one pass over the whole, padding or not; steps equal the whole and do not change the state
they are given. Exact.

Limits: float32 rounding of two computation orders, about 1e-6 of the spread; 1e-4 leaves two
orders.

The same picture from elsewhere: dropout that runs in eval mode differs between calls, too
(`regularisation_works`); so do embedding rows that are changed where they are looked up
(`embeddings_learn`); averages over the batch share more than states (`order_and_flow`).

It can't tell: what a model without explicit states keeps; the repeated calls do.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.diagnostics.finding import Check, Finding, Limit, exact
from tasks.diagnostics.measurements import batch_leak, repeated_calls, state_forms
from tasks.diagnostics.measurements.batch_leak import BatchLeak
from tasks.diagnostics.measurements.repeated_calls import RepeatedCalls
from tasks.diagnostics.measurements.state_forms import StateForms, largest
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotApplicableError
from tasks.diagnostics.question import Limits, Question

LIMITS = {
    "scores": Limit(1e-4, "identity; float32 rounding stays below 1e-6"),
    "pieces": Limit(1e-3, "identity; float32 sums in another order, 1e-5 over long sequences"),
    "count": Limit(0, "identity: clean, per sample, unchanged"),
}


@dataclass(frozen=True)
class Evidence:
    """Calls, rows and explicit states."""

    calls: RepeatedCalls
    batch: BatchLeak
    forms: StateForms | None
    no_forms: str
    stateful: bool


def measure(probe: Probe) -> Evidence:
    """Repeat calls, change rows, run states in pieces."""
    forms, reason = None, ""
    try:
        forms = probe.evidence(state_forms.measure)
    except NotApplicableError as error:
        reason = str(error)
    return Evidence(
        calls=probe.evidence(repeated_calls.measure),
        batch=probe.evidence(batch_leak.measure),
        forms=forms,
        no_forms=reason,
        stateful=probe.subject.declared.stateful,
    )


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """Clean, own, and gone afterwards."""
    unit = "standard deviations of the logits"
    carried = _carried(evidence, limits)
    calls = exact(
        "largest change of a score when an unrelated batch is scored in between",
        evidence.calls.by_earlier_calls,
        limits["scores"],
        "state",
        "make states arguments and results instead of buffers or attributes",
        unit=unit,
        proof=carried,
        explained_by=("embedding",),
    )
    trained = exact(
        "largest change of a score in training mode when another batch came before",
        evidence.calls.by_earlier_training,
        limits["scores"],
        "state",
        "start every training batch, too, from an empty state; rows of two batches are other users",
        unit=unit,
        missing="a pass in training mode with finite scores",
        essential=False,
        proof=carried,
        explained_by=("embedding",),
    )
    renewed = exact(
        "largest change of a score by having scored under other weights before",
        evidence.calls.by_old_weights,
        limits["scores"],
        "state",
        "drop what a call keeps when weights change, or keep nothing",
        unit=unit,
        explained_by=("embedding",),
    )
    random = exact(
        "largest change of a score when only the random state differs",
        evidence.calls.by_randomness,
        limits["scores"],
        "stochastic",
        "start states at zero or at a parameter, not at random values",
        unit=unit,
    )
    shared = exact(
        "largest change of a user's score when only other users of the batch change",
        evidence.batch.largest,
        limits["scores"],
        "batch",
        "give every sample its own state: (B, ...), not (1, ...)",
        unit=unit,
    )
    return QUESTION.finding(
        evidence, calls, trained, renewed, random, shared, *_forms(evidence, limits)
    )


def _carried(evidence: Evidence, limits: Limits) -> str:
    """Prove that a declared state across calls is there; "" where none is, or none is declared."""
    calls = evidence.calls
    moved = max(calls.by_earlier_calls, calls.by_earlier_training or 0.0)
    if not evidence.stateful or moved <= limits["scores"].value:
        return ""
    return f"state across calls is declared, and moves scores by {moved:.2g}"


def _forms(evidence: Evidence, limits: Limits) -> list[Check]:
    forms, proof = evidence.forms, evidence.no_forms
    where = "" if forms is None else forms.first_problem
    errors = [] if forms is None else [forms.split_error, forms.step_error, forms.padded_error]
    pieces = largest([e for e in errors if e is not None]) if errors else None
    unclean = None if forms is None else forms.unclean_states + forms.shared_states + forms.mutated
    return [
        exact(
            "largest difference between a whole pass and its pieces or steps",
            pieces,
            limits["pieces"],
            "state",
            "compare the returned state with the state inside a longer pass",
            unit="standard deviations of the output",
            where=where,
            proof=proof,
            explained_by=(
                "cell",
                "causal",
                "residual",
                "stochastic",
                "batch",
                "core",
                "numeric",
            ),
        ),
        exact(
            "number of first states that are unclean, shared by samples, or changed by a step",
            unclean,
            limits["count"],
            "state",
            "return zeros (or a learned parameter) with the batch as first dimension",
            unit="states",
            where=where,
            proof=proof,
        ),
    ]


QUESTION = Question(
    id="states_start_clean",
    number="X8",
    title="Do hidden and cell states start clean, once per user, and end with the call?",
    stages=("state", "stochastic", "batch"),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
