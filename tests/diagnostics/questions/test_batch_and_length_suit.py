"""G18: does an epoch hold every event once, in windows and batches that lose next to nothing?"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tasks.diagnostics.engine import answer
from tasks.diagnostics.measurements import epoch_coverage
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.questions import batch_and_length_suit
from tasks.diagnostics.subject import Batch


def epochs_of(toy, choose) -> Probe:
    """The healthy program with other epochs: `choose(batches of one epoch, epoch)`."""
    original = toy().make_batches

    def make(prepared, seed, epoch):
        yield from choose(lambda number: list(original(prepared, seed, number)), epoch)

    return Probe(toy(make_batches=make))


def without_last_targets(of, epoch):
    for batch in of(epoch):
        targets = batch.targets.clone()
        targets[torch.arange(len(targets)), batch.lengths - 1] = 0
        yield batch._replace(targets=targets)


def some_twice(of, epoch):
    batches = of(epoch)
    again = batches[0]._replace(seed=99_999 + epoch)
    return [*batches, again]


def same_epoch_again(of, epoch):
    return of(0)


@pytest.mark.parametrize(
    ("choose", "stage"),
    [(without_last_targets, "pad"), (some_twice, "batching"), (same_epoch_again, "batching")],
)
def test_epochs_that_leave_out_or_repeat_are_found(toy, choose, stage: str) -> None:
    finding = answer(batch_and_length_suit.QUESTION, epochs_of(toy, choose))
    assert (finding.verdict, finding.stage) == ("faulty", stage)


def test_a_last_batch_dropped_anew_in_every_epoch_is_legitimate(toy) -> None:
    def full_ones(of, epoch):
        return [batch for batch in of(epoch) if len(batch.item_ids) == 16]

    probe = epochs_of(toy, full_ones)
    finding = answer(batch_and_length_suit.QUESTION, probe)
    assert finding.verdict == "healthy", finding.sentence
    always = epochs_of(toy, lambda of, epoch: [b._replace(seed=b.seed + epoch) for b in of(0)[:-1]])
    finding = answer(batch_and_length_suit.QUESTION, always)
    assert (finding.verdict, finding.stage) == ("faulty", "batching")


@pytest.mark.parametrize("dropped", [True, False], ids=["a batch dropped", "no batch dropped"])
def test_lost_pairs_at_the_limit(healthy: Probe, dropped: bool) -> None:
    question = batch_and_length_suit.QUESTION
    evidence = question.measure(healthy)
    coverage = dataclasses.replace(evidence.windows.coverage, batch_dropped=dropped)
    room = max(0.02, 1 / evidence.num_batches) if dropped else 0.02
    for share, verdict in ((room, "healthy"), (room + 0.001, "faulty")):
        windows = dataclasses.replace(evidence.windows, lost_share=share, coverage=coverage)
        changed = dataclasses.replace(evidence, windows=windows)
        assert question.judge(changed, question.limits).verdict == verdict


def test_counts_of_an_epoch_at_their_limits(healthy: Probe) -> None:
    question = batch_and_length_suit.QUESTION
    evidence = question.measure(healthy)
    for field, limit, beyond in (
        ("repeated_share", 0.02, 0.021),
        ("never_seen", 0, 1),
        ("repeated_seeds", 0, 1),
    ):
        for value, verdict in ((limit, "healthy"), (beyond, "faulty")):
            coverage = dataclasses.replace(evidence.windows.coverage, **{field: value})
            windows = dataclasses.replace(evidence.windows, coverage=coverage)
            changed = dataclasses.replace(evidence, windows=windows)
            assert question.judge(changed, question.limits).verdict == verdict, field


def test_windows_that_overlap_hold_no_sequence_twice(toy) -> None:
    def overlapping(of, epoch):
        for number, batch in enumerate(of(epoch)):
            yield batch
            again = batch.rows(batch.lengths > 4).columns(slice(0, 2))
            yield again._replace(seed=batch.seed + 50_000 + number)

    coverage = epochs_of(toy, overlapping).evidence(epoch_coverage.measure)
    assert coverage.repeated_share == 0.0


def test_short_windows_over_repeated_items_leave_nothing_out(toy) -> None:
    """A window of one event may stand in many places of its sequence."""

    def alike(log):
        item = np.where(np.arange(len(log)) % 3 > 0, "i1", log.item)
        return dataclasses.replace(log, item=item)

    def single_events(prepared, seed, epoch):
        train = prepared.data.train
        pairs = [(u, p) for u in range(len(train)) for p in range(train.lengths[u] - 1)]
        order = np.random.default_rng([seed, epoch]).permutation(len(pairs))
        for number, chosen in enumerate(np.array_split(order, 8)):
            users = [pairs[i][0] for i in chosen]
            runs = [train.sequence(pairs[i][0])[pairs[i][1] :][:2] for i in chosen]
            rows = torch.as_tensor(np.array(runs, dtype=np.int64))
            item_ids, users = rows[:, :1], torch.tensor(users)
            mask = torch.ones_like(item_ids, dtype=torch.bool)
            yield Batch(item_ids, rows[:, 1:], mask, None, users, 100 * epoch + number + 1)

    clean = toy()
    declared = dataclasses.replace(clean.declared, max_seq_len=1)
    subject = clean.replace(log=alike(clean.log), declared=declared, make_batches=single_events)
    coverage = Probe(subject).evidence(epoch_coverage.measure)
    assert (coverage.covered_share, coverage.repeated_share) == (1.0, 0.0)
