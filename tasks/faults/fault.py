"""A planted fault: one named change to a program that is otherwise the clean one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from tasks.diagnostics.subject import PreparedLog, RawLog, Subject

Layer = Literal["data", "model", "xlstm", "training", "evaluation"]
Effort = Literal["exact", "after_training", "deep"]

ANY_MODEL: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Fault:
    """One change, and what a right diagnosis says about it.

    Labels are written before the questions are scored and not changed afterwards.

    Attributes:
        id: Unique name.
        title: What is wrong, one sentence.
        layer: Where it is planted.
        severity: Share of the strongest form, in (0, 1].
        source: Where it was seen in the wild.
        expected: Ids of questions of which at least one has to turn faulty.
        stages: Stages that name the place rightly.
        quiet: Ids of questions that must not turn faulty.
        effort: The cheapest mode of diagnosis that can see it.
        models: Models it can be planted in; empty means every model.
        apply: Clean subject -> faulty subject.
    """

    id: str
    title: str
    layer: Layer
    severity: float
    source: str
    expected: frozenset[str]
    stages: frozenset[str]
    apply: Callable[[Subject], Subject]
    quiet: frozenset[str] = frozenset()
    effort: Effort = "exact"
    models: frozenset[str] = ANY_MODEL

    def __post_init__(self) -> None:
        if not 0 < self.severity <= 1:
            raise ValueError(
                f"severity of {self.id} is {self.severity}; expected 0 < severity <= 1."
            )
        if self.expected & self.quiet:
            raise ValueError(
                f"{self.id} expects {sorted(self.expected & self.quiet)} to fire and to be quiet."
            )

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
    """

    id: str
    title: str
    apply: Callable[[Subject], Subject]
    models: frozenset[str] = ANY_MODEL


def change_prepared(subject: Subject, change: Callable[[PreparedLog], PreparedLog]) -> Subject:
    """Plant a fault into preparation: it spoils what is prepared, now and on every other log."""
    prepare, ready, log = subject.prepare, subject.ready, subject.log

    def prepare_wrongly(given: RawLog) -> PreparedLog:
        if ready is not None and (given is log or prepare is None):
            return change(ready)
        return change(prepare(given))

    return subject.replace(prepare=prepare_wrongly)


def change_model(subject: Subject, change: Callable[[nn.Module], nn.Module]) -> Subject:
    """Plant a fault into every model the program builds; `change` may work in place."""
    build = subject.build_model

    def build_wrongly(num_items: int, seed: int, **settings: Any) -> nn.Module:
        return change(build(num_items, seed, **settings))

    return subject.replace(build_model=build_wrongly)


def first_embedding(model: nn.Module) -> nn.Embedding:
    """Return the item embedding: the first one with more than one row.

    Raises:
        ValueError: The model has none, so the fault can't be planted.
    """
    for module in model.modules():
        if isinstance(module, nn.Embedding) and module.num_embeddings > 1:
            return module
    raise ValueError(f"{type(model).__name__} holds no nn.Embedding; this fault needs one.")
