"""G11. Does information flow along each user's own past, and nowhere else?

Reads: logits under changed futures, changed neighbours in the batch, repeated calls, and a changed
first event. Needs no training.

Rule: scores up to a position do not change when later events do or are left out (next-item task),
a user's scores
do not change when other users do (both batch directions: a recurrence that runs over the batch by
mistake carries influence one way only), a call leaves nothing behind for the next one, and an
event still matters several events later. The first three are identities; they hold for any
weights, so weights are shaken first (see `shake_weights`).

Limits: identities are exact up to float32 rounding, about 1e-6 of the spread of the logits; 1e-4
leaves two orders of magnitude, and real leaks measured in public implementations are above 1e-2.
Influence that does not exist is 0 exactly: 1e-9 lies below what the narrowest models have.

The same picture from elsewhere: batch normalisation in training mode mixes rows by design (the
test runs in eval mode). Bidirectional encoders see the future by design: declare
`task: masked_item`. A model of the last event alone has no memory by design: declare
`reads_history: false`.

It can't tell: whether the order of events matters for the data at hand (an ablation with shuffled
histories does), nor leaks that enter through the targets (`inputs_match_targets` does).
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.diagnostics.finding import Check, Finding, Limit
from tasks.diagnostics.measurements import (
    batch_leak,
    future_leak,
    memory,
    padding_swap,
    repeated_calls,
)
from tasks.diagnostics.measurements.batch_leak import BatchLeak
from tasks.diagnostics.measurements.future_leak import FutureLeak
from tasks.diagnostics.measurements.memory import Memory
from tasks.diagnostics.measurements.repeated_calls import RepeatedCalls
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Limits, Question, quantity

ROUNDING = "identity; float32 rounding stays below 1e-6"

LIMITS = {
    "future": Limit(1e-4, ROUNDING),
    "batch": Limit(1e-4, ROUNDING),
    "calls": Limit(1e-4, ROUNDING),
    "memory": Limit(1e-9, "no influence is 0 exactly; narrow models measured 1e-8"),
}

BY_PADDING = 1e-4
"""Standard deviations of the logits beyond which padding moves scores, as in `padding_handled`."""


@dataclass(frozen=True)
class Evidence:
    """Influences on the scores of one small batch."""

    future: FutureLeak
    batch: BatchLeak
    calls: RepeatedCalls
    memory: Memory
    is_causal_task: bool
    reads_history: bool
    stateful: bool
    by_padding: float = quantity("standard deviations of the logits", default=0.0)


def measure(probe: Probe) -> Evidence:
    """Collect the four influences."""
    declared = probe.subject.declared
    return Evidence(
        future=probe.evidence(future_leak.measure),
        batch=probe.evidence(batch_leak.measure),
        calls=probe.evidence(repeated_calls.measure),
        memory=probe.evidence(memory.measure),
        is_causal_task=declared.task == "next_item",
        reads_history=declared.reads_history,
        stateful=declared.stateful,
        by_padding=probe.evidence(padding_swap.measure).by_more_padding,
    )


UNIT = "standard deviations of the logits"


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """Compare each influence with rounding error, and memory with nothing."""
    later, elsewhere = _later(evidence, limits), _elsewhere(evidence, limits)
    return QUESTION.finding(evidence, *later, *elsewhere, _remembered(evidence, limits))


def _later(evidence: Evidence, limits: Limits) -> list[Check]:
    proof = "" if evidence.is_causal_task else "a masked-item encoder reads both sides"
    future = Check(
        name="largest change of a score when only later events change",
        value=evidence.future.largest_change,
        unit=UNIT,
        limit=limits["future"],
        stage="causal",
        rule="exact",
        where=f"position {evidence.future.position}",
        proof=proof,
        explained_by=("batch",),
        advice=(
            "look for a mean, norm, convolution or attention over the time axis without a causal "
            "mask in the model's forward",
            "check `bidirectional=False` and left-only padding of convolutions",
        ),
    )
    # Noise is drawn by shape: two lengths have two noises.
    is_random = evidence.calls.by_randomness > limits["calls"].value
    # Fewer columns are less padding, too: who reads that may not know of any event.
    reads_padding = evidence.by_padding > BY_PADDING
    length = Check(
        name="largest change of a score when later events are left out",
        value=None if is_random or reads_padding else evidence.future.by_length,
        unit=UNIT,
        limit=limits["future"],
        stage="causal",
        rule="exact",
        missing="windows padded on the right, scored without chance and whatever the padding",
        essential=False,
        proof=proof,
        explained_by=("batch",),
        advice=(
            "look for lengths, means or positions counted from the end in the model's forward",
            "read a score from the events up to its position, not from the whole row",
        ),
    )
    return [future, length]


def _elsewhere(evidence: Evidence, limits: Limits) -> list[Check]:
    carried = evidence.calls.by_earlier_calls
    batch = Check(
        name="largest change of a user's score when only other users of the batch change",
        value=evidence.batch.largest,
        unit=UNIT,
        limit=limits["batch"],
        stage="batch",
        rule="exact",
        where="earlier rows"
        if evidence.batch.from_earlier_rows > evidence.batch.from_later_rows
        else "later rows",
        advice=(
            "check `batch_first` and every reshape or view between (B, S, D) and (S, B, D)",
            "look for statistics or states of shape (1, ...) shared by the batch",
        ),
    )
    calls = Check(
        name="largest change of a score when an unrelated batch is scored in between",
        value=carried,
        unit=UNIT,
        limit=limits["calls"],
        stage="state",
        rule="exact",
        proof=f"state across calls is declared, and moves scores by {carried:.2g}"
        if evidence.stateful and carried > limits["calls"].value
        else "",
        explained_by=("embedding",),
        advice=("look for states kept in buffers or attributes; make them arguments and results",),
    )
    return [batch, calls]


def _remembered(evidence: Evidence, limits: Limits) -> Check:
    lag, influence = evidence.memory.lag, evidence.memory.of_earlier_event
    reads_last = not evidence.reads_history and influence < limits["memory"].value
    return Check(
        name=f"largest change of a score when the event {lag} before it changes",
        value=influence,
        unit=UNIT,
        limit=limits["memory"],
        relation="at_least",
        stage="core",
        rule="exact",
        proof=f"earlier events move scores by {influence:.2g}: the model reads the last one only, "
        "as declared"
        if reads_last
        else "",
        explained_by=("batch", "causal", "cell", "embedding"),
        advice=(
            "check that the sequence model's output, and not its input, reaches the head",
            "check that the recurrent state is carried from one position to the next",
        ),
    )


QUESTION = Question(
    id="order_and_flow",
    number="G11",
    title="Does information flow along each user's own past, and nowhere else?",
    stages=("causal", "batch", "state", "core"),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
