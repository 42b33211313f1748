"""G2, G3, G4, G6, G7, G18, X3, X4, X6, X7, X9: faults are found and placed; limits hold."""

from __future__ import annotations

import dataclasses
import zlib

import numpy as np
import pytest
import torch

from tasks.diagnostics.engine import answer
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.questions import (
    QUESTIONS,
    ids_unique,
    inputs_match_targets,
    sequences_long_enough,
    timestamps_aligned,
)
from tests.diagnostics.questions.changed_programs import renumbered, with_batches, with_data

BY_ID = {question.id: question for question in QUESTIONS}


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


def test_ids_that_follow_a_hash_of_names_are_found(toy) -> None:
    original = toy().prepare

    def hashed(log):
        prepared = original(log)
        keys = [zlib.crc32(name.encode()) for name in prepared.item_labels[1:]]
        return renumbered(prepared, np.argsort(keys) + 1)

    finding = answer(ids_unique.QUESTION, Probe(toy(prepare=hashed)))
    assert (finding.verdict, finding.stage) == ("faulty", "encode")


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


def test_preparation_without_a_log_stays_open(toy) -> None:
    clean = toy()
    probe = Probe(toy(log=None, ready=clean.prepared()))
    for id in ("ids_unique", "timestamps_aligned", "padding_id_reserved"):
        assert answer(BY_ID[id], probe).verdict == "undetermined"


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


def test_padded_positions_ask_for_nothing(toy) -> None:
    probe = with_batches(
        toy, lambda batch: batch._replace(targets=torch.where(batch.mask, batch.targets, 1))
    )
    finding = answer(BY_ID["padding_handled"], probe)
    assert finding.verdict == "faulty"
    assert any("padded positions that ask" in c.name for c in finding.checks if c.broken)
