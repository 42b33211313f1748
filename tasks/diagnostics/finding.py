"""What a question answers: checks with the very numbers compared, and the verdict they make."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from tasks.diagnostics.check import (
    FAMILY_LEVEL,
    RULES,
    VERDICTS,
    Check,
    Limit,
    Repeat,
    Rule,
    Verdict,
    exact,
)
from tasks.diagnostics.stages import Stage, position

__all__ = [
    "FAMILY_LEVEL",
    "RULES",
    "SCHEMA_VERSION",
    "VERDICTS",
    "Check",
    "Finding",
    "Limit",
    "Repeat",
    "Rule",
    "Verdict",
    "blame",
    "conclude",
    "exact",
    "plain",
    "render",
    "roots",
]

SCHEMA_VERSION = 1
"""Version of the JSON form; grows when a field changes its meaning or goes away."""

DEEP_COMMAND = "assay diagnose --deep"
"""What trains models to find out; one question alone is cheaper than all of them."""


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
        advice = _unique(line.replace(DEEP_COMMAND, _alone(number)) for line in lacking)
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

    A check is a consequence when a check at one of its `explained_by` stages is broken, or one that
    all others presume. Hard means everything but a statistical rule; a symptom comes last whatever
    its rule.
    """
    broken = {check.stage for check in checks}
    return sorted(checks, key=lambda check: blame(check, broken))


def blame(check: Check, broken: set[Stage]) -> tuple:
    """Return the sort key of a broken check among others, given all broken stages."""
    explained = bool(broken.intersection(check.explained_by) - {check.stage})
    soft = check.rule in ("statistical", "descriptive")
    symptom = check.stage == "symptom"
    is_consequence = (not check.comes_first, explained, symptom)
    return (*is_consequence, check.verdict != "faulty", soft, position(check.stage))


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


def _alone(number: str) -> str:
    return f"{DEEP_COMMAND} --only {number}"


def _unique(lines: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(line for line in lines if line))


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
