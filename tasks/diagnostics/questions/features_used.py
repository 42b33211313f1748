"""X12. Does the trained model use the items, their order and their times?

Reads: ranks of test targets from histories as they are, with every item renamed, with events in
random order, and with time gaps in random order; the same for transition counts, three draws of
each; in the deep mode, where that costs nothing, the same of a training with another seed; the
influence of the last event's time on scores.

Rule: what spoils the histories has to cost the model at least a fifth of what it costs counting by
the last item (paired over users, the middle draw); less is suspect until a training with another
seed loses as little. Where it costs counting nothing, the data do not
need it, and nothing is judged. A declared time feature reaches the score after its event and no
earlier one (identities, before any training); one whose gaps can be shuffled for free is suspect.
That a model reads no times is seen by moving them.

Limits: a fifth of the loss of counting, tested one-sided; healthy trainings measured 0.7 and more.
1e-6 is float32 resolution, 1e-4 its rounding with room. Two standard errors for times: they are a
side feature, and nothing counts them for comparison.

The same picture from elsewhere: a model that has learned nothing yet; histories that do not reach
the model (`order_and_flow`).

It can't tell: whether a feature is used well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from tasks.diagnostics.finding import FAMILY_LEVEL, Check, Finding, Limit, Repeat, exact
from tasks.diagnostics.measurements import (
    ablations,
    second_training,
    skill,
    time_influence,
    trained_out,
)
from tasks.diagnostics.measurements.ablations import USED, Ablation, Ablations
from tasks.diagnostics.measurements.skill import REACHED
from tasks.diagnostics.measurements.time_influence import TimeUse
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import COMMANDS, Limits, Question, quantity
from tasks.diagnostics.stages import Stage

LIMITS = {
    "used": Limit(USED, "a fifth of what counting loses; healthy trainings lose 0.7 and more"),
    "reaches": Limit(1e-6, "resolution of float32: below it there is no influence"),
    "causal": Limit(1e-4, "identity; float32 rounding stays below 1e-6"),
    "times": Limit(2.0, "two standard errors of a paired difference"),
}
CAUSES: tuple[Stage, ...] = ("batch", "causal", "gradient_flow", "optimiser", "inference")


@dataclass(frozen=True)
class Evidence:
    """What spoiled histories cost."""

    ablations: Ablations | None
    use: TimeUse
    uses_times: bool = quantity("the model is declared to read times")
    learned: bool = quantity("the model has skill, or has learned its training targets")
    unlearned: str = ""
    items_again: Repeat | None = None
    order_again: Repeat | None = None


def measure(probe: Probe) -> Evidence:
    """Spoil, rank, compare."""
    uses_times = probe.subject.declared.uses_times
    use = probe.evidence(time_influence.measure_use)
    if probe.subject.trained is None or not probe.allows("after_training"):
        return Evidence(None, use, uses_times, False, COMMANDS["after_training"])
    found, state = probe.evidence(skill.measure), probe.evidence(trained_out.measure)
    spoiled = probe.evidence(ablations.measure)
    learned = found.share >= REACHED or state.fits_training
    return Evidence(
        ablations=spoiled,
        use=use,
        uses_times=uses_times,
        learned=learned,
        unlearned=state.missing,
        items_again=_again(probe, spoiled, lambda found: found.items) if learned else None,
        order_again=_again(probe, spoiled, lambda found: found.order) if learned else None,
    )


def _again(
    probe: Probe, first: Ablations, choose: Callable[[Ablations], Ablation]
) -> Repeat | None:
    """Return what a second training loses by a change that seems to cost this one nothing."""
    one = choose(first)
    if not one.matters or one.share >= USED or one.p_unused > FAMILY_LEVEL:
        return None

    def read(found: Ablations) -> Repeat:
        return Repeat(choose(found).share, choose(found).p_unused)

    return second_training.repeat(probe, ablations.measure, read)


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """Every declared feature is missed when it is gone."""
    found, declared = evidence.ablations, evidence.uses_times
    unused = evidence.use.proof(declared)
    # Times that move scores against the declaration are said to do so, and not judged further.
    influence = evidence.use.influence if declared else None
    lacking = evidence.use.lacking or "a declaration of the times that move scores (uses_times)"
    reaches = exact(
        "largest change of a score by the time of the event right before it",
        influence.on_last if influence else None,
        limits["reaches"],
        "time",
        "compare the gap given to an event with its time minus that of the event before",
        unit="standard deviations of the logits",
        relation="at_least",
        missing=lacking,
        proof=unused,
        essential=declared,
        explained_by=("core",),
    )
    causal = exact(
        "largest change of a score by the time of an event after it",
        influence.on_earlier if influence else None,
        limits["causal"],
        "time",
        "give every event the gap to the event before it, not after it",
        unit="standard deviations of the logits",
        missing=lacking,
        proof=unused,
        essential=declared,
        explained_by=("causal", "batch"),
    )
    times = Check(
        name="loss of NDCG by shuffled time gaps",
        value=found.times if found else None,
        unit="standard errors",
        limit=limits["times"],
        stage="time",
        rule="descriptive",
        relation="at_least",
        breach="suspect",
        missing="histories whose time gaps differ" if declared else lacking,
        proof=unused,
        essential=False,
        advice=("set train.<model>.time_gaps to false: the model is as good without",),
    )
    items = dataclasses.replace(
        _spoiled("renamed items", found and found.items, evidence, limits, "embedding"),
        repeat=evidence.items_again,
    )
    order = dataclasses.replace(
        _spoiled("shuffled order", found and found.order, evidence, limits, "core"),
        repeat=evidence.order_again,
    )
    return QUESTION.finding(evidence, items, order, reaches, causal, times)


def _spoiled(
    what: str, found: Ablation | None, evidence: Evidence, limits: Limits, stage: Stage
) -> Check:
    judged = found is not None and (evidence.learned or found.share >= limits["used"].value)
    return Check(
        name=f"loss of NDCG by {what}, per loss of transition counts",
        value=found.share if judged else None,
        unit="",
        limit=limits["used"],
        stage=stage,
        rule="statistical",
        relation="at_least",
        p_value=found.p_unused if judged else None,
        by_training=True,
        missing=evidence.unlearned,
        proof=""
        if not found or found.matters
        else f"{what} cost transition counts nothing on these data",
        explained_by=CAUSES if stage == "embedding" else ("embedding", *CAUSES),
        advice=("change one item of a history and compare scores: does it reach the head?",),
    )


QUESTION = Question(
    id="features_used",
    number="X12",
    title="Does the trained model use the items, their order and their times?",
    stages=("embedding", "time", "core"),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
