"""What a diagnosis says as a whole: its first line, and the cheapest thing to do next."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tasks.diagnostics.finding import VERDICTS, Check, Finding
from tasks.diagnostics.question import COMMANDS

if TYPE_CHECKING:
    from tasks.diagnostics.engine import Diagnosis

NEXT_TEST = "Cheapest next test: "
"""Opens the last sentence of a first line that names a fault."""


def headline(findings: tuple[Finding, ...], first: Check | None, blamed: Finding | None) -> str:
    """Name the most probable fault, its stage, its evidence and the cheapest next test.

    Or say that nothing was found.

    Args:
        findings: All of them.
        first: The check to blame; None where nothing is broken.
        blamed: The finding it belongs to.
    """
    counts = {v: sum(f.verdict == v for f in findings) for v in VERDICTS}
    if first is None or blamed is None:
        return (
            f"Nothing found: {counts['healthy']} questions healthy, "
            f"{counts['undetermined']} undetermined, {counts['not_applicable']} not applicable."
        )
    if first.stage == "symptom":
        word = "A symptom without a known cause"
    else:
        kind = "Most probable fault" if first.verdict == "faulty" else "Most suspicious"
        word = f"{kind}: stage {first.stage}"
    told = f"{word} ({blamed.number} {blamed.question}). {blamed.sentence}"
    if not first.advice:
        return told
    end = "" if first.advice[0].endswith(("?", ".", "!")) else "."
    return f"{told} {NEXT_TEST}{first.advice[0]}{end}"


def next_test(findings: tuple[Finding, ...], first: Check | None) -> str:
    """The advice on what is broken; else what settles an open question, cheapest first.

    Args:
        findings: All of them.
        first: The check to blame; None where nothing is broken.
    """
    if first is not None and first.advice:
        return first.advice[0]
    lacking = [
        check.missing
        for finding in findings
        if finding.verdict == "undetermined"
        for check in finding.checks
        if check.verdict == "undetermined" and check.essential
    ]
    if any(COMMANDS["after_training"] in text for text in lacking):
        return COMMANDS["after_training"]
    # Data or epochs that are missing; they cost less than trainings made only to find out.
    other = [text for text in lacking if COMMANDS["deep"] not in text]
    if other:
        return f"give what is missing: {other[0]}"
    return COMMANDS["deep"] if lacking else ""


def calls_for_interventions(diagnosis: Diagnosis) -> bool:
    """Whether a symptom is all that was found, or what one training alone shows.

    A symptom beside a cause calls for nothing: the cause explains it. One that is only described,
    by no test, is reported: healthy programs show it too, and trainings are dear.
    """
    checks = [check for finding in diagnosis.findings for check in finding.checks]
    is_known = any(finding.verdict == "faulty" for finding in diagnosis.findings)
    if diagnosis.stage == "symptom":
        is_known = False
        if any(c.broken and c.stage == "symptom" and c.rule != "descriptive" for c in checks):
            return True
    return not is_known and any(check.awaits_repeat for check in checks)


def with_options(diagnosis: Diagnosis, options: str) -> Diagnosis:
    """Return the diagnosis with `assay diagnose OPTIONS` wherever it names the command.

    So that the commands it names can be typed as they are.
    """

    def addressed(text: str) -> str:
        return text.replace("`assay diagnose", f"`assay diagnose {options}")

    findings = tuple(
        dataclasses.replace(
            finding,
            advice=tuple(map(addressed, finding.advice)),
            checks=tuple(
                dataclasses.replace(check, missing=addressed(check.missing))
                for check in finding.checks
            ),
        )
        for finding in diagnosis.findings
    )
    return dataclasses.replace(
        diagnosis,
        findings=findings,
        headline=addressed(diagnosis.headline),
        next_test=addressed(diagnosis.next_test),
    )
