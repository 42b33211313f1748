"""Runs questions, corrects statistical ones for their number, and says which stage is to blame."""

from __future__ import annotations

import dataclasses
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.diagnostics.conclusion import headline, next_test
from tasks.diagnostics.finding import (
    FAMILY_LEVEL,
    SCHEMA_VERSION,
    VERDICTS,
    Check,
    Finding,
    Limit,
    blame,
    conclude,
    plain,
)
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import (
    DiagnosisError,
    NotApplicableError,
    NotMeasuredError,
    NotOfferedError,
    SubjectError,
)
from tasks.diagnostics.question import COMMANDS, Mode, Question
from tasks.diagnostics.stages import Stage


@dataclass(frozen=True)
class Diagnosis:
    """All findings of a run, and what they say together.

    Attributes:
        subject: Name of the program under diagnosis.
        mode: What was allowed to be spent.
        findings: One per question, in questionnaire order.
        headline: First line of a report.
        stage: Stage blamed; None when nothing is broken.
        question: Id of the question that found it; "" when nothing is broken.
        next_test: The cheapest thing to do next.
    """

    subject: str
    mode: Mode
    findings: tuple[Finding, ...]
    headline: str
    stage: Stage | None
    question: str
    next_test: str

    def count(self) -> dict[str, int]:
        """Number of findings per verdict, verdicts without any included."""
        return {v: sum(f.verdict == v for f in self.findings) for v in VERDICTS}

    def finding(self, question: str) -> Finding:
        """Return the finding of a question, by its id or number.

        Raises:
            KeyError: The question was not asked.
        """
        for finding in self.findings:
            if question in (finding.question, finding.number):
                return finding
        known = ", ".join(finding.question for finding in self.findings)
        raise KeyError(f"no finding of question {question!r}; there are {known}.")

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        return plain(
            {
                "schema_version": SCHEMA_VERSION,
                "subject": self.subject,
                "mode": self.mode,
                "headline": self.headline,
                "stage": self.stage,
                "question": self.question,
                "next_test": self.next_test,
                "counts": self.count(),
                "findings": [finding.to_json() for finding in self.findings],
            }
        )


def run_questions(
    probe: Probe,
    questions: Sequence[Question],
    *,
    on_finding: Callable[[Finding], None] | None = None,
) -> Diagnosis:
    """Answer every question and conclude.

    Args:
        probe: The subject and the budget.
        questions: In questionnaire order.
        on_finding: Called after each question, before the correction for their number.

    Raises:
        DiagnosisError: A question failed by a bug of its own. The others were still answered; they
            are in the error's `diagnosis`.
    """
    findings: list[Finding] = []
    failures: dict[str, str] = {}
    for question in questions:
        start = time.process_time()
        try:
            finding = answer(question, probe)
        except Exception:
            failures[question.id] = traceback.format_exc()
            continue
        finding = dataclasses.replace(finding, seconds=time.process_time() - start)
        findings.append(finding)
        if on_finding is not None:
            on_finding(finding)
    diagnosis = diagnose_findings(probe.subject.name, probe.mode, findings)
    if failures:
        raise DiagnosisError(failures, diagnosis)
    return diagnosis


def answer(question: Question, probe: Probe) -> Finding:
    """Answer one question. Bugs pass through; what the subject did or lacks becomes a finding."""
    if not probe.allows(question.mode):
        return _without_number(question, missing=COMMANDS[question.mode])
    try:
        evidence = probe.evidence(question.measure)
    except SubjectError as error:
        if error.part in question.owns:
            return _crashed(question, error)
        return _without_number(question, missing=f"the program failed in {error}")
    except NotOfferedError as error:
        return _without_number(question, missing=str(error))
    except NotMeasuredError as error:
        return _without_number(question, missing=str(error))
    except NotApplicableError as error:
        return _without_number(question, proof=str(error))
    return question.judge(evidence, question.limits)


def diagnose_findings(subject: str, mode: Mode, findings: Iterable[Finding]) -> Diagnosis:
    """Correct statistical checks over the whole report and find the stage to blame."""
    settled = correct_for_number(tuple(findings))
    first, blamed = _most_to_blame(settled)
    return Diagnosis(
        subject=subject,
        mode=mode,
        findings=settled,
        headline=headline(settled, first, blamed),
        stage=first.stage if first else None,
        question=blamed.question if blamed else "",
        next_test=next_test(settled, first),
    )


def _most_to_blame(findings: tuple[Finding, ...]) -> tuple[Check | None, Finding | None]:
    """Return the check to blame and its finding.

    Of questions that share a check, the one that is mainly about its stage speaks. Where something
    is faulty, what is only suspect neither comes first nor explains it.
    """
    broken = [(check, finding) for finding in findings for check in finding.checks if check.broken]
    broken = [pair for pair in broken if pair[0].verdict == "faulty"] or broken
    if not broken:
        return None, None
    stages = {check.stage for check, _ in broken}

    def key(pair: tuple[Check, Finding]) -> tuple:
        check, finding = pair
        known = finding.stages
        about = known.index(check.stage) if check.stage in known else len(known)
        return (*blame(check, stages), about)

    return min(broken, key=key)


def correct_for_number(
    findings: tuple[Finding, ...], level: float = FAMILY_LEVEL
) -> tuple[Finding, ...]:
    """Apply Holm's step-down correction to every p-value of the report.

    All tests that were made count, also those far from their limit, so that the chance of any
    false alarm in a healthy report stays below `level` (Holm, 1979).
    """
    tests = [
        (check.p_value, number, place)
        for number, finding in enumerate(findings)
        for place, check in enumerate(finding.checks)
        if check.p_value is not None
    ]
    significant: dict[tuple[int, int], bool] = {}
    rejecting = True
    for rank, (p_value, number, place) in enumerate(sorted(tests)):
        rejecting = rejecting and p_value <= level / (len(tests) - rank)
        significant[number, place] = rejecting
    settled = []
    for number, finding in enumerate(findings):
        checks = tuple(
            check
            if check.p_value is None
            else dataclasses.replace(check, significant=significant[number, place])
            for place, check in enumerate(finding.checks)
        )
        settled.append(finding if checks == finding.checks else _again(finding, checks))
    return tuple(settled)


def exit_code(diagnosis: Diagnosis, fail_on: str) -> int:
    """Return 1 when a finding is at least as bad as `fail_on`, else 0.

    Args:
        diagnosis: All findings.
        fail_on: `never`, `suspect` or `faulty`.

    Raises:
        ValueError: `fail_on` is none of the three.
    """
    bad = {"never": (), "suspect": ("suspect", "faulty"), "faulty": ("faulty",)}
    if fail_on not in bad:
        raise ValueError(f"fail_on is {fail_on!r}; expected never, suspect or faulty.")
    return int(any(finding.verdict in bad[fail_on] for finding in diagnosis.findings))


def _again(finding: Finding, checks: tuple[Check, ...]) -> Finding:
    made = conclude(
        finding.question,
        finding.number,
        finding.title,
        checks,
        finding.evidence,
        stages=finding.stages,
    )
    advice = finding.advice if made.verdict == "undetermined" else made.advice
    return dataclasses.replace(made, advice=advice, seconds=finding.seconds)


def _without_number(question: Question, *, missing: str = "", proof: str = "") -> Finding:
    none = Limit(0.0, "nothing was compared")
    check = Check(
        question.title, None, "", none, question.stages[0], "exact", missing=missing, proof=proof
    )
    return question.finding(None, check)


def _crashed(question: Question, error: SubjectError) -> Finding:
    limit = Limit(0.0, "a legal input has to run")
    check = Check(
        name=f"failures of `{error.part}` under a legal input",
        value=1.0,
        unit="failures",
        limit=limit,
        stage=question.stages[0],
        rule="exact",
        where=error.reason,
        advice=(f"run `{error.part}` alone on one batch and read the traceback: {error.reason}",),
    )
    return question.finding(None, check)
