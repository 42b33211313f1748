"""A planted fault: one named change to a program that is otherwise the clean one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tasks.diagnostics.subject import Subject

Layer = Literal["data", "model", "xlstm", "training", "evaluation"]
Effort = Literal["exact", "after_training", "deep"]

ANY_MODEL: frozenset[str] = frozenset()
RECURRENT = frozenset({"gru", "lstm", "xlstm", "slstm", "mlstm"})
WITH_SLSTM = frozenset({"xlstm", "slstm"})
WITH_MLSTM = frozenset({"xlstm", "mlstm"})
WITH_XLSTM = frozenset({"xlstm", "slstm", "mlstm"})
"""Models by what they are made of: `slstm` and `mlstm` are stacks of one kind of block."""


def unchanged(subject: Subject) -> Subject:
    """Return the subject as it is: the fault, or variant, lies in its settings alone."""
    return subject


def at(*stages: str) -> frozenset[str]:
    """Name the stages that place a fault rightly."""
    return frozenset(stages)


@dataclass(frozen=True)
class Fault:
    """One change, and what a right diagnosis says about it.

    Labels are written before the questions are scored and not changed afterwards.

    Attributes:
        id: Unique name.
        title: What is wrong, one sentence.
        layer: Where it is planted.
        source: Where it was seen in the wild.
        expected: Ids of questions of which at least one has to turn faulty.
        stages: Stages that name the place rightly.
        apply: Clean subject -> faulty subject.
        severity: Share of the strongest form, in (0, 1].
        quiet: Ids of questions that must not turn faulty.
        effort: The cheapest mode of diagnosis that can see it.
        models: Models it can be planted in; empty means every model.
        needs: Settings of the clean program it is planted in, besides the usual ones.
        settings: Settings of the faulty program alone: legal values, badly chosen.
    """

    id: str
    title: str
    layer: Layer
    source: str
    expected: frozenset[str]
    stages: frozenset[str]
    apply: Callable[[Subject], Subject] = unchanged
    severity: float = 1.0
    quiet: frozenset[str] = frozenset()
    effort: Effort = "exact"
    models: frozenset[str] = ANY_MODEL
    needs: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.severity <= 1:
            raise ValueError(
                f"severity of {self.id} is {self.severity}; expected 0 < severity <= 1."
            )
        if self.expected & self.quiet:
            raise ValueError(
                f"{self.id} expects {sorted(self.expected & self.quiet)} to fire and to be quiet."
            )
        if self.apply is unchanged and not self.settings:
            raise ValueError(f"{self.id} changes nothing; give it `apply` or `settings`.")

    def plant(self, subject: Subject) -> Subject:
        """Return the subject with the fault in it, named after it."""
        return self.apply(subject).replace(name=f"{subject.name} with {self.id}")


@dataclass(frozen=True)
class HealthyVariant:
    """A legitimate change that must leave every question quiet.

    Attributes:
        id: Unique name.
        title: What is different, one sentence.
        apply: Clean subject -> another healthy subject.
        models: Models it applies to; empty means every model.
        settings: Settings of the variant, besides the usual ones.
    """

    id: str
    title: str
    apply: Callable[[Subject], Subject] = unchanged
    models: frozenset[str] = ANY_MODEL
    settings: Mapping[str, Any] = field(default_factory=dict)
