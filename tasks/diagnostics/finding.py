"""What a question answers: checks with the very numbers compared, and the verdict they make."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from tasks.diagnostics.stages import Stage, position

SCHEMA_VERSION = 1
"""Version of the JSON form; grows when a field changes its meaning or goes away."""

Verdict = Literal["healthy", "suspect", "faulty", "undetermined", "not_applicable"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

Rule = Literal["exact", "oracle", "intervention", "statistical", "descriptive"]
RULES: tuple[Rule, ...] = get_args(Rule)
"""Classes of rule, hardest first: identity, independent recomputation, change one thing and run
again, test with a stated error rate, number without a verdict of its own."""

FAMILY_LEVEL = 0.01
"""Probability of at least one false alarm by a statistical test in a whole report."""


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
        if self.value is None:
            return False
        if self.relation == "at_most":
            return not self.value <= self.limit.value
        return not self.value >= self.limit.value

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
            return self.breach if passed else "healthy"
        return self.breach

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
            f"({allowed} {_number(self.limit.value)}: {self.limit.source}){where}"
        )


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


@dataclass(frozen=True)
class Finding:
    """The answer to one question.

    Attributes:
        question: Id of the question, the name of its file.
        number: Number in the questionnaire, G1..G25 or X1..X25.
        title: The question in one sentence.
        verdict: The answer.
        stage: Stage blamed by the answer; None unless suspect or faulty.
        rule: Class of the rule that decided.
        checks: Every comparison made.
        evidence: Name -> {"value", "unit"} of everything measured, whatever the verdict.
        advice: What to do, cheapest test first.
        stages: Stages the question can blame, the one it is mainly about first.
        seconds: Processor time the question took.
    """

    question: str
    number: str
    title: str
    verdict: Verdict
    stage: Stage | None
    rule: Rule | None
    checks: tuple[Check, ...]
    evidence: dict[str, dict[str, Any]] = field(default_factory=dict)
    advice: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = ()
    seconds: float = 0.0

    @property
    def sentence(self) -> str:
        """The answer in words, made of the stored numbers."""
        return render(self)

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`; numbers that JSON lacks become strings."""
        form = dataclasses.asdict(self)
        for check, own in zip(form["checks"], self.checks, strict=True):
            check["verdict"] = own.verdict
        form["sentence"] = self.sentence
        return plain(form)


def conclude(
    question: str,
    number: str,
    title: str,
    checks: tuple[Check, ...],
    evidence: dict[str, dict[str, Any]],
    command: str = "",
    stages: tuple[Stage, ...] = (),
) -> Finding:
    """Make the finding of a question from its checks.

    The worst broken check decides. With none broken, one essential check without a value leaves
    the question undetermined: what was not measured is never called healthy.

    Args:
        question: Id of the question.
        number: Its number in the questionnaire.
        title: The question.
        checks: At least one.
        evidence: Everything measured.
        command: What would settle an undetermined answer.
        stages: Stages the question can blame, the one it is mainly about first.
    """
    if not checks:
        raise ValueError(f"question {question} made no check; expected at least one.")
    verdict = _verdict(checks)
    broken = roots([check for check in checks if check.verdict == verdict])
    if verdict in ("suspect", "faulty"):
        advice = _unique(line for check in broken for line in check.advice)
    elif verdict == "undetermined":
        lacking = [c.missing for c in checks if c.verdict == "undetermined" and c.essential]
        advice = _unique([command, *lacking] if command else lacking)
    else:
        advice = ()
    decided = broken[0] if verdict in ("suspect", "faulty") else None
    return Finding(
        question=question,
        number=number,
        title=title,
        verdict=verdict,
        stage=decided.stage if decided else None,
        rule=decided.rule if decided else None,
        checks=checks,
        evidence=evidence,
        advice=advice,
        stages=stages,
    )


def roots(checks: list[Check]) -> list[Check]:
    """Order broken checks by blame: causes before consequences, hard rules first, early first.

    A check is a consequence when a check at one of its `explained_by` stages is broken. Hard means
    everything but a statistical rule; a symptom comes last whatever its rule.
    """
    broken = {check.stage for check in checks}
    return sorted(checks, key=lambda check: blame(check, broken))


def blame(check: Check, broken: set[Stage]) -> tuple:
    """Return the sort key of a broken check among others, given all broken stages."""
    explained = bool(broken.intersection(check.explained_by) - {check.stage})
    soft = check.rule in ("statistical", "descriptive")
    symptom = check.stage == "symptom"
    return (explained, symptom, check.verdict != "faulty", soft, position(check.stage))


def render(finding: Finding) -> str:
    """Put a finding into words; the only place where that is done."""
    if finding.verdict in ("suspect", "faulty"):
        broken = roots([check for check in finding.checks if check.broken])
        more = f" ({len(broken) - 1} more)" if len(broken) > 1 else ""
        return f"{_upper(broken[0].describe())}{more}."
    if finding.verdict == "undetermined":
        lacking = [c for c in finding.checks if c.verdict == "undetermined" and c.essential]
        return f"{_upper('; '.join(check.describe() for check in lacking))}."
    if finding.verdict == "not_applicable":
        return f"{_upper('; '.join(check.proof for check in finding.checks))}."
    compared = [check for check in finding.checks if check.value is not None]
    return f"{_upper('; '.join(check.describe() for check in compared))}."


def plain(value: Any) -> Any:
    """Turn nested values into what JSON can hold: NaN and infinities become strings.

    >>> plain({"a": (1.0, float("inf"))})
    {'a': [1.0, 'Infinity']}
    """
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return value.item() if hasattr(value, "item") else str(value)


def _verdict(checks: tuple[Check, ...]) -> Verdict:
    found = {check.verdict for check in checks}
    if "faulty" in found:
        return "faulty"
    if "suspect" in found:
        return "suspect"
    if any(check.verdict == "undetermined" and check.essential for check in checks):
        return "undetermined"
    if "healthy" in found:
        return "healthy"
    return "not_applicable" if "not_applicable" in found else "undetermined"


def _unique(lines: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(line for line in lines if line))


def _number(value: float) -> str:
    return f"{value:.4g}"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
