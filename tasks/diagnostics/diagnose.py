"""`diagnose(...)`: all answers about a program of one's own, in one call."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from tasks.data.recipe import Recipe
from tasks.diagnostics.adapt import AdaptError
from tasks.diagnostics.engine import Diagnosis, run_questions
from tasks.diagnostics.example_log import EXAMPLE_ITEMS, example_log
from tasks.diagnostics.own_program import OwnProgram, own_subject
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Mode
from tasks.diagnostics.questions import select_questions
from tasks.diagnostics.subject import Batch, PreparedLog, RawLog, Subject
from tasks.diagnostics.untouched import untouched


def diagnose(
    model: nn.Module | Callable[..., nn.Module] | OwnProgram | None = None,
    *,
    subject: Subject | None = None,
    log: RawLog | None = None,
    prepared: PreparedLog | None = None,
    recipe: Recipe | None = None,
    declared: Mapping[str, Any] | None = None,
    num_items: int = EXAMPLE_ITEMS,
    mode: Mode = "exact",
    seed: int = 0,
    only: Sequence[str] = (),
    **parts: Any,
) -> Diagnosis:
    """Answer every question about a model, or about a whole subject.

    Args:
        model: A module from item ids (B, S) to scores (B, S, V) or (B, V) or hidden states, or a
            function that builds one, or an `OwnProgram`. V is num_items + 1, column 0 being that
            of padding, or num_items.
        subject: A subject put together by hand, instead of a model.
        log: Raw log; a small made-up one where neither it nor `prepared` is given.
        prepared: Prepared data of one's own.
        recipe: How the log is prepared; leave-one-out by default.
        declared: What the program says of itself, by fields of `Declared`.
        num_items: Items of the made-up log, as many as the module was built for.
        mode: How much may be spent: `exact` (no training), `after_training` (reads a finished
            training) or `deep` (trains again); each includes the ones before it.
        seed: Of weights, batches and perturbations.
        only: Ids or numbers of the questions to ask; all of them by default.
        parts: Further parts, by fields of `OwnProgram`: loss, batch_loss, optimizer, train_step,
            batches, sample_negatives, score, rank, metrics, evaluate, call, head, batch_first,
            padding_side, padding_id, first_item_id.

    Returns:
        One finding per question, the stage to blame and the next test.

    Raises:
        ValueError: Neither a model nor a subject is given, or both; or something is given beside a
            subject that only goes with a model; or `only` or `declared` holds an unknown name.
        TypeError: `parts` holds what is no field of `OwnProgram`.
        AdaptError: The module's arguments or results are of no known kind; says what to give.
        DiagnosisError: A question failed by a bug of its own.
    """
    if (model is None) == (subject is None):
        raise ValueError("give either model or subject to diagnose.")
    if subject is None:
        if log is None and prepared is None:
            log = example_log(num_items)
        program = model if isinstance(model, OwnProgram) else OwnProgram(model)
        subject = own_subject(
            dataclasses.replace(program, **parts),
            log=log,
            ready=prepared,
            recipe=recipe,
            declared=declared,
        )
        _try_signature(subject)
    else:
        about_data = {"log": log, "prepared": prepared, "recipe": recipe}
        beside = [*parts, *(name for name, value in about_data.items() if value is not None)]
        beside += ["declared"] if declared else []
        if beside:
            raise ValueError(f"{sorted(beside)} given beside a subject; use subject.replace(...).")
    return run_questions(Probe(subject, mode, seed=seed), select_questions(only))


def _try_signature(subject: Subject) -> None:
    """Say at once where a module can't be called. Whatever else fails is for the questions."""
    ids = torch.ones(2, 3, dtype=torch.int64)
    batch = Batch(ids, ids, ids > 0, torch.zeros_like(ids))
    with untouched(), torch.no_grad():
        try:
            model = subject.build_model(subject.prepared().data.num_items, 0).eval()
            subject.logits(model, batch)
        except AdaptError:
            raise
        except Exception:
            return
