"""What a question is made of, and how its evidence becomes named numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from tasks.diagnostics.finding import DEEP_COMMAND, Check, Finding, Limit, conclude
from tasks.diagnostics.stages import Stage

if TYPE_CHECKING:
    from tasks.diagnostics.probe import Probe

Mode = Literal["exact", "after_training", "deep"]
MODES: tuple[Mode, ...] = get_args(Mode)
"""What may be spent: seconds before training; a finished training; trainings of its own."""

COMMANDS: dict[Mode, str] = {
    "exact": "run `assay diagnose`",
    "after_training": "train the model, then run `assay diagnose`",
    "deep": f"run `{DEEP_COMMAND}`",
}

Limits = Mapping[str, Limit]


@dataclass(frozen=True)
class Question:
    """One of the fifty questions.

    Attributes:
        id: Name of the file that holds it.
        number: G1..G25 or X1..X25.
        title: The question in one sentence.
        stages: Where a fault it finds can sit.
        mode: The cheapest mode that can answer it.
        measure: Looks at the subject through a probe; returns a dataclass of evidence.
        judge: Turns evidence into a finding; a pure function.
        limits: Every limit it compares with, by name.
        owns: Parts of the subject whose crash under a legal input is a fault found by this
            question. A crash of any other part leaves the question undetermined.
    """

    id: str
    number: str
    title: str
    stages: tuple[Stage, ...]
    mode: Mode
    measure: Callable[[Probe], Any]
    judge: Callable[[Any, Limits], Finding]
    limits: Limits
    owns: frozenset[str] = frozenset()

    def finding(self, evidence: Any, *checks: Check) -> Finding:
        """Make this question's finding; `evidence` is a dataclass or None."""
        return conclude(
            question=self.id,
            number=self.number,
            title=self.title,
            checks=checks,
            evidence={} if evidence is None else numbers(evidence),
            stages=self.stages,
        )


def quantity(unit: str, **options: Any) -> Any:
    """Declare a measured field of an evidence dataclass together with its unit."""
    return field(metadata={"unit": unit}, **options)


def numbers(evidence: Any, prefix: str = "") -> dict[str, dict[str, Any]]:
    """Flatten an evidence dataclass into name -> {"value", "unit"}; nested names get a dot.

    Fields without a declared unit (tensors, plot data) are left out.

    >>> @dataclass(frozen=True)
    ... class Leak:
    ...     future: float = quantity("output std")
    >>> numbers(Leak(0.5))
    {'future': {'value': 0.5, 'unit': 'output std'}}
    """
    flat: dict[str, dict[str, Any]] = {}
    for item in dataclasses.fields(evidence):
        value = getattr(evidence, item.name)
        name = f"{prefix}{item.name}"
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            flat |= numbers(value, f"{name}.")
        elif "unit" in item.metadata:
            flat[name] = {"value": value, "unit": item.metadata["unit"]}
    return flat
