"""A public package under diagnosis: how it is built, and what was verified of it by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tasks.diagnostics.own_program import OwnProgram

Truth = Literal["true of the package", "true of this use of it", "a false alarm"]


@dataclass(frozen=True)
class Verified:
    """A finding that was looked into by hand.

    Attributes:
        questions: Ids of the questions that are red for this one reason.
        truth: What the finding turned out to be.
        claim: The reason, in the package's own terms.
        reproduce: Shows the reason without the diagnosis: a number.
        shown: Whether the number shows it.
        unit: Of the number.
    """

    questions: tuple[str, ...]
    truth: Truth
    claim: str
    reproduce: Callable[[], float]
    shown: Callable[[float], bool]
    unit: str


@dataclass(frozen=True)
class Case:
    """One model of one package.

    Attributes:
        name: For people and `--only`.
        distribution: Name in the registry.
        module: What has to be importable.
        licence: As the package states it.
        source: The part of its documentation the builder follows.
        program: The model, and what the module wants.
        verified: Every red finding, by hand.
        num_items: Catalogue it is built for.
    """

    name: str
    distribution: str
    module: str
    licence: str
    source: str
    program: OwnProgram
    verified: tuple[Verified, ...] = ()
    num_items: int = 100
