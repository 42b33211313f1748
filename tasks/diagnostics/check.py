"""One measured number beside one limit, and what that comparison alone says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from tasks.diagnostics.stages import Stage

Verdict = Literal["healthy", "suspect", "faulty", "undetermined", "not_applicable"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

Rule = Literal["exact", "oracle", "intervention", "statistical", "descriptive"]
RULES: tuple[Rule, ...] = get_args(Rule)
"""Classes of rule, hardest first: identity, independent recomputation, change one thing and run
again, test with a stated error rate, number without a verdict of its own."""

FAMILY_LEVEL = 0.01
"""Probability of at least one false alarm by a statistical test in a whole report."""

REPEAT_LEVEL = 0.05
"""Level of the same test on a second training, which is made only where the first breaks a limit:
with no more false alarms than the first alone, one that is not repeated stays suspect."""


@dataclass(frozen=True)
class Limit:
    """A number something is compared with.

    Attributes:
        value: In the unit of the check.
        source: Where it comes from: a derivation, a paper, a measurement.
    """

    value: float
    source: str


@dataclass(frozen=True)
class Repeat:
    """What a check measures, measured once more on a training with another seed.

    Attributes:
        value: In the unit of the check.
        p_value: Of the same statistical test; None where none is made.
    """

    value: float
    p_value: float | None = None


@dataclass(frozen=True)
class Check:
    """One comparison of one measured number with one limit.

    Attributes:
        name: What was measured, a noun phrase that can open a sentence.
        value: The number; None when it could not be measured (then `missing` or `proof` says why).
        unit: Unit of value and limit.
        limit: What the value is compared with.
        stage: Where the fault sits when the limit is broken.
        rule: Class of the rule; decides how much weight a breach has.
        relation: Healthy values are at most, or at least, the limit.
        breach: Verdict when the limit is broken.
        p_value: Of a statistical test; the breach then also has to survive Holm's correction over
            the report, and `limit` is the floor of the effect.
        significant: Result of that correction; None before it was made.
        where: The first place where it was seen (user, position, parameter).
        missing: What is needed to measure it.
        proof: Why the check does not apply.
        essential: Without it the question stays undetermined.
        explained_by: Stages whose faults break this limit too; a breach is a consequence, not a
            cause, when a check at one of these stages is broken.
        advice: What to do about a breach, cheapest first, naming parameter or file.
        comes_first: Every other identity presumes this one, so a breach explains all others.
        by_training: The value is that of one finished training, which its seed may have spoiled: a
            breach is suspect until `repeat` shows it too.
        repeat: The same of a training with another seed; None where none was made.
    """

    name: str
    value: float | None
    unit: str
    limit: Limit
    stage: Stage
    rule: Rule
    relation: Literal["at_most", "at_least"] = "at_most"
    breach: Literal["faulty", "suspect"] = "faulty"
    p_value: float | None = None
    significant: bool | None = None
    where: str = ""
    missing: str = ""
    proof: str = ""
    essential: bool = True
    explained_by: tuple[Stage, ...] = ()
    advice: tuple[str, ...] = ()
    comes_first: bool = False
    by_training: bool = False
    repeat: Repeat | None = None

    def __post_init__(self) -> None:
        if self.value is None and not (self.missing or self.proof):
            raise ValueError(f"check {self.name!r} has no value; state what is missing.")
        if self.rule == "descriptive" and self.breach == "faulty":
            raise ValueError(
                f"check {self.name!r} is descriptive and faulty; a description is never more than "
                "suspect. Set breach='suspect', or find an identity or a test."
            )

    @property
    def outside(self) -> bool:
        """The value breaks the limit; NaN always does."""
        return self.value is not None and self._breaks(self.value)

    def _breaks(self, value: float) -> bool:
        if self.relation == "at_most":
            return not value <= self.limit.value
        return not value >= self.limit.value

    @property
    def repeated(self) -> bool:
        """Another training breaks the limit too, with less than one chance in twenty."""
        again = self.repeat
        if again is None or not self._breaks(again.value):
            return False
        return again.p_value is None or again.p_value <= REPEAT_LEVEL

    @property
    def awaits_repeat(self) -> bool:
        """A breach that another training would turn from suspect into faulty."""
        return self.by_training and self.repeat is None and self.breach == "faulty" and self.broken

    @property
    def verdict(self) -> Verdict:
        """What this comparison alone says."""
        if self.proof:
            return "not_applicable"
        if self.value is None:
            return "undetermined"
        if not self.outside:
            return "healthy"
        if self.p_value is not None:
            passed = self.p_value <= FAMILY_LEVEL if self.significant is None else self.significant
            if not passed:
                return "healthy"
        return "suspect" if self.by_training and not self.repeated else self.breach

    @property
    def broken(self) -> bool:
        """The check says suspect or faulty."""
        return self.verdict in ("suspect", "faulty")

    def describe(self) -> str:
        """Say what was compared, from the stored numbers; places and sources only of a breach."""
        if self.proof:
            return f"{self.name}: not applicable, {self.proof}"
        if self.value is None:
            return f"{self.name}: not measured, {self.missing}"
        allowed = "at most" if self.relation == "at_most" else "at least"
        unit = f" {self.unit}" if self.unit else ""
        p_value = "" if self.p_value is None else f", p = {self.p_value:.2g}"
        if not self.outside:
            return f"{self.name} is {_number(self.value)}{unit}{p_value}"
        where = f"; first seen at {self.where}" if self.where else ""
        return (
            f"{self.name} is {_number(self.value)}{unit}{p_value} "
            f"({allowed} {_number(self.limit.value)}: {self.limit.source}){where}{self._seeds()}"
        )

    def _seeds(self) -> str:
        """How many trainings a breach was seen in."""
        if not self.by_training:
            return ""
        if self.repeat is None:
            return "; seen in one training"
        again = _number(self.repeat.value)
        return f"; {again} in a training with another seed"


def exact(
    name: str,
    value: float | None,
    limit: Limit,
    stage: Stage,
    *advice: str,
    unit: str = "",
    **more: Any,
) -> Check:
    """Make a check of an identity; `more` are further fields of `Check`.

    >>> exact("number of wrong rows", 0, Limit(0, "identity of rows"), "order", "sort").verdict
    'healthy'
    """
    return Check(name, value, unit, limit, stage, "exact", advice=advice, **more)


def _number(value: float) -> str:
    return f"{value:.4g}"
