"""G6: is everything prepared in one and the same way, at every time and for every split?"""

from __future__ import annotations

import numpy as np
import torch

from tasks.diagnostics.engine import answer
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.questions import preprocessing_same_everywhere
from tasks.faults.planting import from_rows
from tests.diagnostics.questions.changed_programs import renumbered


def test_preparation_that_looks_at_held_out_items_is_found(toy) -> None:
    original = toy().prepare

    def peeking(log):
        prepared = original(log)
        turn = int(np.asarray(prepared.data.test.targets)[:10].sum())
        return renumbered(prepared, np.roll(np.arange(prepared.data.num_items), turn) + 1)

    finding = answer(preprocessing_same_everywhere.QUESTION, Probe(toy(prepare=peeking)))
    assert (finding.verdict, finding.stage, finding.rule) == ("faulty", "split", "intervention")


def test_batches_that_nobody_can_make_again_are_found(toy) -> None:
    original, drawn = toy().make_batches, iter(range(1, 100))

    def unseeded(prepared, seed, epoch):
        yield from original(prepared, seed + next(drawn), epoch)

    finding = answer(preprocessing_same_everywhere.QUESTION, Probe(toy(make_batches=unseeded)))
    assert (finding.verdict, finding.stage) == ("faulty", "stochastic")


def test_batches_drawn_from_the_global_generator_can_be_made_again(toy) -> None:
    original = toy().make_batches

    def by_global_seed(prepared, seed, epoch):
        yield from original(prepared, int(torch.randint(1000, ())), epoch)

    probe = Probe(toy(make_batches=by_global_seed))
    assert answer(preprocessing_same_everywhere.QUESTION, probe).verdict == "healthy"


def test_histories_of_validation_are_compared_too(toy) -> None:
    original = toy().make_histories

    def with_target(data, split, index, max_len):
        return original(data, data.test if split.name == "val" else split, index, max_len)

    probe = Probe(toy(make_histories=with_target))
    finding = answer(preprocessing_same_everywhere.QUESTION, probe)
    assert (finding.verdict, finding.stage) == ("faulty", "split")
    assert "val split" in finding.sentence


def test_a_preparation_that_draws_lots_is_found(toy) -> None:
    original, rng = toy().prepare, np.random.default_rng(0)

    def in_any_order(log):
        order = rng.permutation(len(log))
        return from_rows(original(log.keep(order)), order)

    finding = answer(preprocessing_same_everywhere.QUESTION, Probe(toy(prepare=in_any_order)))
    assert (finding.verdict, finding.stage) == ("faulty", "stochastic")
