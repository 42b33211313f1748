"""Comparisons of cures, shared by the questions about rate, batches and length of a training."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.diagnostics.finding import Check, Limit
from tasks.diagnostics.measurements import cures
from tasks.diagnostics.measurements.cures import CURED, Cures
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import (
    NotApplicableError,
    NotMeasuredError,
    NotOfferedError,
    SubjectError,
)
from tasks.diagnostics.stages import Stage

CURE_LIMIT = Limit(CURED, "half of counting's gain, where the training stays below a quarter")

EARLIER: tuple[Stage, ...] = (
    "order",
    "time",
    "encode",
    "format",
    "split",
    "align",
    "pad",
    "loss",
    "output",
    "optimiser",
    "gradient_flow",
    "clipping",
    "regularisation",
)


@dataclass(frozen=True)
class Remedies:
    """What cures a training without skill, or why that was not looked for.

    Attributes:
        cures: What was tried.
        missing: What it would take to try.
        proof: Why there is nothing to cure.
    """

    cures: Cures | None = None
    missing: str = ""
    proof: str = ""


def look_for_cures(probe: Probe) -> Remedies:
    """Try what may cure, in the deep mode and where there is something to cure."""
    try:
        found = probe.evidence(cures.measure)
    except NotApplicableError as reason:
        return Remedies(proof=str(reason))
    except (NotMeasuredError, NotOfferedError, SubjectError) as reason:
        return Remedies(missing=str(reason))
    if not found.symptom:
        return Remedies(found, proof="the finished training has skill: there is nothing to cure")
    return Remedies(found)


def cure_check(
    remedies: Remedies,
    name: str,
    change: str,
    limit: Limit,
    stage: Stage,
    *advice: str,
    explained_by: tuple[Stage, ...] = (),
) -> Check:
    """Compare what a change of the training reaches with what counts as a cure.

    Args:
        remedies: From `look_for_cures`.
        name: Field of `Cures`.
        change: The change, to go on after "reached".
        limit: What counts as a cure.
        stage: Where the fault is when the change cures.
        advice: What to do then.
        explained_by: Further stages whose faults let this change cure.
    """
    value = getattr(remedies.cures, name) if remedies.cures else None
    return Check(
        name=f"gain of transition counts reached {change}, where the finished training has none",
        value=value,
        unit="",
        limit=limit,
        stage=stage,
        rule="intervention",
        missing=remedies.missing or "no trial: an earlier one cured, and is reported elsewhere",
        proof=remedies.proof,
        essential=False,
        explained_by=(*EARLIER, *explained_by),
        advice=advice,
    )
