"""G2, G3, G6, G7, G18, X3, X4, X6, X7, X9: each fires on its fault, placed, and at its limit."""

from __future__ import annotations

import dataclasses
import zlib

import numpy as np
import pytest
import torch

from tasks.diagnostics.engine import answer
from tasks.diagnostics.measurements import epoch_coverage
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.questions import (
    QUESTIONS,
    batch_and_length_suit,
    ids_unique,
    inputs_match_targets,
    preprocessing_same_everywhere,
    sequences_long_enough,
    timestamps_aligned,
)
from tasks.diagnostics.subject import Batch
from tasks.faults.planting import from_rows

BY_ID = {question.id: question for question in QUESTIONS}


def with_batches(toy, change) -> Probe:
    """The healthy program with every batch changed."""
    original = toy().make_batches

    def make(prepared, seed, epoch):
        for batch in original(prepared, seed, epoch):
            yield change(batch)

    return Probe(toy(make_batches=make))


def with_data(toy, change) -> Probe:
    """The healthy program with other prepared data; `change` gets data and returns its fields."""
    original = toy().prepare

    def prepare(log):
        prepared = original(log)
        data = dataclasses.replace(prepared.data, **change(prepared.data))
        return dataclasses.replace(prepared, data=data)

    return Probe(toy(prepare=prepare))


def shifted_twice(batch):
    return batch._replace(targets=torch.roll(batch.targets, -1, dims=1) * batch.mask)


def foreign_items(batch):
    return batch.with_items((batch.item_ids * 7 % 30 + 1) * batch.mask)


def cut(batch):
    return batch.columns(slice(0, 2))


def empty_row(batch):
    mask = batch.mask.clone()
    mask[0] = False
    return batch._replace(item_ids=batch.item_ids * mask, targets=batch.targets * mask, mask=mask)


@pytest.mark.parametrize(
    ("question", "change", "stage"),
    [
        ("inputs_match_targets", lambda b: b._replace(targets=b.item_ids.clone()), "align"),
        ("targets_shifted_by_one", shifted_twice, "align"),
        ("formats_consistent", lambda b: b._replace(item_ids=b.item_ids.float()), "format"),
        ("formats_consistent", foreign_items, "format"),
        ("batch_and_length_suit", cut, "pad"),
        ("length_preserved", cut, "pad"),
        ("sequences_long_enough", empty_row, "pad"),
    ],
)
def test_spoiled_batches_are_found(toy, question: str, change, stage: str) -> None:
    finding = answer(BY_ID[question], with_batches(toy, change))
    assert (finding.verdict, finding.stage) == ("faulty", stage), finding.sentence


def held_out_in_training(data):
    rows = np.asarray(data.train.rows).copy()
    rows[0] = data.test.target_rows[0]
    return {"train": dataclasses.replace(data.train, rows=rows)}


def other_map_held_out(data):
    targets = (np.asarray(data.test.targets) % data.num_items) + 1
    return {"test": dataclasses.replace(data.test, targets=targets)}


def from_zero(data):
    return {"train": dataclasses.replace(data.train, items=np.asarray(data.train.items) - 1)}


def collided(data):
    items = np.maximum(np.asarray(data.train.items) // 2, 1).astype(np.int32)
    return {"train": dataclasses.replace(data.train, items=items)}


def other_times(data):
    times = np.roll(np.asarray(data.train.times), 1)
    return {"train": dataclasses.replace(data.train, times=times)}


@pytest.mark.parametrize(
    ("question", "change", "stage"),
    [
        ("inputs_match_targets", held_out_in_training, "split"),
        ("preprocessing_same_everywhere", other_map_held_out, "encode"),
        ("padding_id_reserved", from_zero, "encode"),
        ("ids_unique", collided, "encode"),
        ("timestamps_aligned", other_times, "time"),
    ],
)
def test_spoiled_data_are_found(toy, question: str, change, stage: str) -> None:
    finding = answer(BY_ID[question], with_data(toy, change))
    assert (finding.verdict, finding.stage) == ("faulty", stage), finding.sentence


def test_a_history_that_shows_its_target_is_found(toy) -> None:
    def shows(data, split, index, max_len):
        given = data.histories(split, index, max_len)
        items, lengths = given.item_ids.copy(), given.lengths
        items[np.arange(len(index)), lengths - 1] = np.asarray(split.targets)[index]
        return given._replace(item_ids=items)

    finding = answer(inputs_match_targets.QUESTION, Probe(toy(make_histories=shows)))
    assert (finding.verdict, finding.stage) == ("faulty", "split")


def renumbered(prepared, order: np.ndarray):
    """Give the item with present id `order[i]` the id i + 1, everywhere."""
    new_id = np.zeros(prepared.data.num_items + 1, dtype=np.int64)
    new_id[order] = np.arange(1, len(order) + 1)

    def packed(part):
        return dataclasses.replace(part, items=new_id[part.items].astype(np.int32))

    def split(part):
        return dataclasses.replace(part, targets=new_id[part.targets], extra=packed(part.extra))

    data = prepared.data
    changed = dataclasses.replace(
        data, train=packed(data.train), val=split(data.val), test=split(data.test)
    )
    labels = np.concatenate([prepared.item_labels[:1], prepared.item_labels[order]])
    return dataclasses.replace(prepared, data=changed, item_labels=labels)


def test_ids_that_follow_a_hash_of_names_are_found(toy) -> None:
    original = toy().prepare

    def hashed(log):
        prepared = original(log)
        keys = [zlib.crc32(name.encode()) for name in prepared.item_labels[1:]]
        return renumbered(prepared, np.argsort(keys) + 1)

    finding = answer(ids_unique.QUESTION, Probe(toy(prepare=hashed)))
    assert (finding.verdict, finding.stage) == ("faulty", "encode")


def test_preparation_that_looks_at_held_out_items_is_found(toy) -> None:
    original = toy().prepare

    def peeking(log):
        prepared = original(log)
        turn = int(np.asarray(prepared.data.test.targets)[:10].sum())
        return renumbered(prepared, np.roll(np.arange(prepared.data.num_items), turn) + 1)

    finding = answer(preprocessing_same_everywhere.QUESTION, Probe(toy(prepare=peeking)))
    assert (finding.verdict, finding.stage, finding.rule) == ("faulty", "split", "intervention")


def test_short_rows_are_suspect_and_never_faulty(healthy: Probe) -> None:
    question = sequences_long_enough.QUESTION
    evidence = question.measure(healthy)
    for share, verdict in ((0.25, "healthy"), (0.26, "suspect")):
        windows = dataclasses.replace(evidence.windows, short_share=share)
        changed = dataclasses.replace(evidence, windows=windows)
        assert question.judge(changed, question.limits).verdict == verdict


def test_times_the_model_does_not_read_are_not_asked_of_batches(healthy: Probe) -> None:
    question = timestamps_aligned.QUESTION
    finding = answer(question, healthy)
    assert finding.verdict == "healthy"
    evidence = dataclasses.replace(question.measure(healthy), uses_times=True)
    assert question.judge(evidence, question.limits).verdict == "undetermined"


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


def test_preparation_without_a_log_stays_open(toy) -> None:
    clean = toy()
    probe = Probe(toy(log=None, ready=clean.prepared()))
    for id in ("ids_unique", "timestamps_aligned", "padding_id_reserved"):
        assert answer(BY_ID[id], probe).verdict == "undetermined"


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


def validated_on_test(data):
    return {"val": dataclasses.replace(data.test, name="val")}


def splits_exchanged(data):
    return {
        "val": dataclasses.replace(data.test, name="val"),
        "test": dataclasses.replace(data.val, name="test"),
    }


def of_the_next_user(data):
    return {"test": dataclasses.replace(data.test, users=np.roll(data.test.users, 1))}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (validated_on_test, "target of more than one example"),
        (splits_exchanged, "later than their test target"),
        (of_the_next_user, "gives to another user"),
    ],
    ids=["held out twice", "tested first", "of the next user"],
)
def test_splits_that_are_mixed_up_are_found(toy, change, words: str) -> None:
    finding = answer(inputs_match_targets.QUESTION, with_data(toy, change))
    assert (finding.verdict, finding.stage) == ("faulty", "split")
    assert any(words in check.name for check in finding.checks if check.broken)


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


def test_padded_positions_ask_for_nothing(toy) -> None:
    probe = with_batches(
        toy, lambda batch: batch._replace(targets=torch.where(batch.mask, batch.targets, 1))
    )
    finding = answer(BY_ID["padding_handled"], probe)
    assert finding.verdict == "faulty"
    assert any("padded positions that ask" in c.name for c in finding.checks if c.broken)


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
