"""The diagnosis as the page shows it: findings grouped by where a fault can sit."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tasks.report.evidence import evidence_charts
from tasks.report.records import Records, Row, Training

NO_DIAGNOSIS = "The diagnosis has not been run yet (`assay diagnose`)."
VERDICT_ORDER = ("faulty", "suspect", "undetermined", "healthy", "not_applicable")
ATTENTION = ("faulty", "suspect")

STAGE_GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "Data and split",
        ("order", "time", "encode", "format", "split", "align", "pad", "distribution"),
    ),
    (
        "The network",
        (
            "dims",
            "stochastic",
            "state",
            "batch",
            "causal",
            "residual",
            "cell",
            "numeric",
            "embedding",
            "core",
            "activation",
        ),
    ),
    ("Scores and loss", ("output", "loss", "negatives")),
    (
        "Training",
        (
            "gradient_flow",
            "optimiser",
            "clipping",
            "regularisation",
            "batching",
            "learning_rate",
        ),
    ),
    ("Evaluation", ("inference", "metric")),
    ("Records and results", ("monitoring", "symptom")),
)
"""Headings of the page and the stages below each, in the order data flow."""

TRUSTED_GROUPS = ("Data and split", "Evaluation")
"""Where a fault makes the numbers themselves wrong, not only the model."""


def group_of(finding: Row) -> str:
    """Return the heading a finding stands under: the stage it blames, or its main one.

    >>> group_of({"stage": None, "stages": ["metric", "inference"]})
    'Evaluation'
    """
    stage = finding.get("stage") or next(iter(finding.get("stages", ())), "symptom")
    return next((title for title, stages in STAGE_GROUPS if stage in stages), STAGE_GROUPS[-1][0])


def describe_diagnosis(records: Records, training: Training | None) -> Row:
    """Return what the template needs; empty ``groups`` where nothing was diagnosed."""
    findings = records.findings
    if not findings:
        return {"headline": NO_DIAGNOSIS, "groups": [], "errors": {}, "counts": []}
    answers = findings["findings"]
    shown = [_finding(answer, records, training) for answer in answers]
    return {
        "headline": findings["headline"],
        "subject": findings.get("subject", ""),
        "mode": findings.get("mode", "").replace("_", " "),
        "errors": findings.get("errors", {}),
        "counts": _counts(answers),
        "groups": [
            {"title": title, "findings": own, "counts": _counts(own)}
            for title, _ in STAGE_GROUPS
            if (own := [finding for finding in shown if finding["group"] == title])
        ],
    }


def _counts(findings: list[Row]) -> list[tuple[str, int]]:
    counts = Counter(finding["verdict"] for finding in findings)
    return [(verdict, counts[verdict]) for verdict in VERDICT_ORDER if counts[verdict]]


def _finding(answer: Row, records: Records, training: Training | None) -> Row:
    rows = [_check(number, check) for number, check in enumerate(answer["checks"], start=1)]
    evidence = [
        (name.replace("_", " ").replace(".", ": "), number(item["value"]), item["unit"])
        for name, item in answer.get("evidence", {}).items()
    ]
    return {
        **answer,
        "group": group_of(answer),
        "rows": rows,
        "measured": evidence,
        "charts": evidence_charts(answer, records, training),
    }


def _check(place: int, check: Row) -> Row:
    compared = check["value"] is not None
    sign = "≤" if check["relation"] == "at_most" else "≥"
    why = check["limit"]["source"]
    if not compared:
        missing, proof = check.get("missing"), check.get("proof")
        why = (
            f"Not measured: {missing}" if missing else f"Does not apply: {proof}" if proof else why
        )
    where = check.get("where")
    return {
        "number": place,
        "name": check["name"] + (f" (at {where})" if where else ""),
        "value": number(check["value"], check["unit"]),
        "limit": f"{sign} {number(check['limit']['value'])}" if compared else "–",
        "verdict": check["verdict"],
        "source": why,
    }


def number(value: Any, unit: str = "") -> str:
    """Return a measured value as short text.

    >>> number(0.123456, "nats"), number(None), number(True)
    ('0.1235 nats', '–', 'yes')
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"{text} {unit}".strip()
