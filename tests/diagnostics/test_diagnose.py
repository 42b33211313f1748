"""Diagnosing torch modules of other people's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tasks.diagnostics.adapt import Adapter, AdaptError
from tasks.diagnostics.diagnose import diagnose
from tasks.diagnostics.example_log import example_log
from tasks.diagnostics.own_program import load_builder
from tasks.diagnostics.subject import Batch

NUM_ITEMS = 30


class Plain(nn.Module):
    """Scores after every position."""

    def __init__(self, num_items: int = NUM_ITEMS, width: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_items + 1, width, padding_idx=0)
        self.core = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, num_items + 1)

    def hidden(self, item_ids):
        return self.core(self.embedding(item_ids))[0]

    def forward(self, item_ids):
        return self.head(self.hidden(item_ids))


class Tuple(Plain):
    def forward(self, item_ids):
        output, state = self.core(self.embedding(item_ids))
        return state, self.head(output)


class Hidden(Plain):
    def forward(self, input_ids, attention_mask):
        return {"last_hidden_state": self.hidden(input_ids)}


class WithoutPadding(Plain):
    def __init__(self, num_items: int = NUM_ITEMS) -> None:
        super().__init__(num_items)
        self.head = nn.Linear(8, num_items)


class LastByLength(Plain):
    def forward(self, item_ids, lengths):
        output = self.hidden(item_ids)
        return self.head(output[torch.arange(len(output)), (lengths - 1).clamp(min=0)])


class LastColumn(Plain):
    def forward(self, item_ids):
        return self.head(self.hidden(item_ids)[:, -1])


class TimeFirst(Plain):
    def __init__(self, num_items: int = NUM_ITEMS) -> None:
        super().__init__(num_items)
        self.core = nn.GRU(8, 8)


def run(model, **given):
    return diagnose(
        model, num_items=NUM_ITEMS, declared={"max_seq_len": 12, "batch_size": 32}, **given
    )


@pytest.mark.parametrize(
    "model", [Plain, Plain(), Tuple, Hidden, WithoutPadding, LastByLength], ids=repr
)
def test_healthy_modules_of_any_signature_are_healthy(model) -> None:
    diagnosis = run(model)
    red = [f"{f.number} {f.sentence}" for f in diagnosis.findings if f.verdict == "faulty"]
    assert red == []
    assert diagnosis.count()["healthy"] >= 25


def test_time_first_modules_are_healthy_when_said_so_and_mix_users_when_not() -> None:
    assert run(TimeFirst, batch_first=False).stage is None
    assert run(TimeFirst).stage == "batch"


def test_a_module_that_reads_padding_is_found() -> None:
    diagnosis = run(LastColumn)
    assert (diagnosis.question, diagnosis.stage) == ("padding_handled", "pad")


def test_an_own_loss_optimiser_and_ranking_are_used() -> None:
    def loss(scores, targets):
        return nn.functional.cross_entropy(scores, targets, reduction="sum")

    def head_only(model):
        return torch.optim.SGD(model.head.parameters(), lr=0.1)

    diagnosis = run(Plain, optimizer=head_only, rank=lambda s, t: np.zeros(len(t), dtype=int) + 1)
    red = {f.question for f in diagnosis.findings if f.verdict == "faulty"}
    assert {"gradients_flow", "ranking_metrics_right"} <= red
    assert run(Plain, loss=loss).finding("loss_fits_task").verdict == "not_applicable"


def test_what_nothing_is_known_of_is_not_judged() -> None:
    diagnosis = run(Plain)
    assert diagnosis.finding("residuals_add").verdict == "not_applicable"


def test_unusual_arguments_and_results_say_what_to_give() -> None:
    class Strange(Plain):
        def forward(self, item_ids, colour):
            return item_ids

    ids = torch.ones(1, 2, dtype=torch.int64)
    batch = Batch(ids, ids, ids > 0)
    with pytest.raises(AdaptError, match="colour"):
        Adapter(NUM_ITEMS).logits(Strange(), batch)
    with pytest.raises(AdaptError, match="head="):
        Adapter(NUM_ITEMS).logits(nn.Embedding(5, 3), batch)
    with pytest.raises(AdaptError, match="expected scores"):
        Adapter(NUM_ITEMS, call=lambda model, given: given.item_ids).logits(Strange(), batch)
    called = Adapter(NUM_ITEMS, call=lambda model, given: Plain.forward(model, given.item_ids))
    assert called.logits(Strange(), batch).shape == (1, 2, NUM_ITEMS + 1)


def test_a_builder_is_found_by_its_path() -> None:
    assert load_builder("torch.nn:GRU") is nn.GRU
    for path in ("torch.nn", "torch.nn:", "no_such_module:x", "torch.nn:no_such_name"):
        with pytest.raises(ValueError, match="model"):
            load_builder(path)


def test_either_a_model_or_a_subject(toy) -> None:
    with pytest.raises(ValueError, match="either"):
        diagnose()
    with pytest.raises(ValueError, match="subject"):
        diagnose(subject=toy(), loss=None)
    with pytest.raises(ValueError, match=r"\['declared', 'log'\] given beside a subject"):
        diagnose(subject=toy(), log=example_log(5), declared={"dropout": 0.1})
    assert diagnose(subject=toy()).stage is None


def test_the_example_log_shows_every_item() -> None:
    log = example_log(50, num_users=5)
    assert len(np.unique(log.item)) == 50
    assert (np.diff(np.sort(log.time)) >= 0).all()
