"""X2: fires, stays quiet, is undetermined without a log."""

from __future__ import annotations

import dataclasses

import numpy as np

from tasks.diagnostics.engine import answer
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.questions.events_in_time_order import QUESTION


def spoil(toy, **change):
    """The healthy program with changed training arrays."""
    clean = toy()

    def prepare(log):
        prepared = clean.prepare(log)
        train = prepared.data.train
        arrays = {name: make(np.asarray(getattr(train, name))) for name, make in change.items()}
        data = dataclasses.replace(prepared.data, train=dataclasses.replace(train, **arrays))
        return dataclasses.replace(prepared, data=data)

    return Probe(toy(prepare=prepare))


def test_a_reversed_order_is_found(toy) -> None:
    probe = spoil(toy, rows=lambda a: a[::-1].copy())
    finding = answer(QUESTION, probe)
    assert (finding.verdict, finding.stage) == ("faulty", "order")


def test_an_event_used_twice_is_found(toy) -> None:
    def repeat(values):
        values = values.copy()
        values[1] = values[0]
        return values

    finding = answer(QUESTION, spoil(toy, rows=repeat, items=repeat, times=repeat))
    assert (finding.verdict, finding.stage) == ("faulty", "split")


def test_rows_outside_the_log_are_found(toy) -> None:
    finding = answer(QUESTION, spoil(toy, rows=lambda a: a + 10_000))
    assert finding.verdict == "faulty"


def test_no_row_numbers_or_no_log_leave_it_open(toy) -> None:
    assert answer(QUESTION, spoil(toy, rows=lambda a: a * 0 - 1)).verdict == "undetermined"
    clean = toy()
    prepared = clean.prepare(clean.log)
    assert answer(QUESTION, Probe(toy(log=None, ready=prepared))).verdict == "undetermined"


def test_ids_may_be_numbers_on_one_side_and_text_on_the_other(toy) -> None:
    clean = toy()
    numbered = dataclasses.replace(clean.log, user=np.array([int(u[1:]) for u in clean.log.user]))
    assert answer(QUESTION, Probe(toy(log=numbered))).verdict == "healthy"


def test_items_shuffled_against_their_rows_are_found(toy) -> None:
    finding = answer(QUESTION, spoil(toy, items=lambda a: np.roll(a, 1)))
    assert (finding.verdict, finding.stage) == ("faulty", "order")


def test_another_map_of_ids_is_not_a_matter_of_order(toy) -> None:
    finding = answer(QUESTION, spoil(toy, items=lambda a: a.max() + 1 - a))
    assert finding.verdict == "healthy"


def test_lost_events_are_found(toy) -> None:
    clean = toy()
    spoiled = toy(prepare=lambda log: clean.prepare(log.keep(np.arange(len(log)) < len(log) - 30)))
    finding = answer(QUESTION, Probe(spoiled))
    assert (finding.verdict, finding.stage) == ("faulty", "split")
