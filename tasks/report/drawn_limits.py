"""Limits of the questions, in the units of the plots that show their evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]

FARTHEST = 1e4
"""A limit this many times farther out than the data is told in the caption and not drawn."""


def finding_of(findings: Row, question: str) -> Row:
    """Return what was found for a question; one without checks where it was not asked."""
    answers = findings.get("findings", ())
    found = next((each for each in answers if each["question"] == question), None)
    return found or {"question": question, "checks": [], "evidence": {}}


def check_of(finding: Row, words: str) -> Row | None:
    """Return the first check whose name holds these words."""
    return next((check for check in finding["checks"] if words in check["name"]), None)


def limit_of(finding: Row, words: str) -> float | None:
    """Limit of the first check whose name holds these words."""
    check = check_of(finding, words)
    return None if check is None else check["limit"]["value"]


def rate_limits(finding: Row) -> list[float]:
    """Return the multiples of the declared learning rate at which the question's limits lie.

    A step grows in proportion to the rate, so that a measured step and its limit give the multiple
    that would reach it: the lowest one with an effect, the highest one that keeps the weights.

    >>> step = {"name": "change of the weights by one optimiser step", "value": 0.1}
    >>> reach = {"name": "change of the weights that the whole budget can reach", "value": 20.0}
    >>> checks = [{**step, "limit": {"value": 1.0}}, {**reach, "limit": {"value": 0.01}}]
    >>> rate_limits({"checks": checks})
    [0.0005, 10.0]
    """
    found = (check_of(finding, words) for words in ("whole budget", "one optimiser step"))
    return [check["limit"]["value"] / check["value"] for check in found if check and check["value"]]


def loss_limit(finding: Row) -> float | None:
    """Return the loss a training has to come down to, in the loss's unit; None if not judged.

    >>> evidence = {"outcome.uniform": {"value": 7.0}, "outcome.popularity": {"value": 5.0}}
    >>> check = {"name": "fall of the loss by training", "value": 3.0, "limit": {"value": 0.25}}
    >>> loss_limit({"evidence": evidence, "checks": [check]})
    6.5
    """
    check = check_of(finding, "fall of the loss by training")
    evidence = finding.get("evidence", {})
    ends = [evidence.get(f"outcome.{name}", {}).get("value") for name in ("uniform", "popularity")]
    if check is None or check["value"] is None or None in ends:
        return None
    return ends[0] - check["limit"]["value"] * (ends[0] - ends[1])


def within_reach(limits: Sequence[float], values: Sequence[float]) -> list[float]:
    """Return the limits that can be drawn on a log axis without pressing its data together.

    >>> within_reach([1e-9, 0.5, 1e9], [0.1, 1.0])
    [0.5]
    """
    positive = [value for value in values if value > 0]
    if not positive:
        return []
    low, high = min(positive) / FARTHEST, max(positive) * FARTHEST
    return [limit for limit in limits if low <= limit <= high]
