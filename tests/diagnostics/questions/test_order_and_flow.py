"""G11: fires, stays quiet, holds at the limit."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tasks.diagnostics.engine import answer
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.questions.order_and_flow import LIMITS, QUESTION, judge, measure


def built_from(toy, base: type, forward):
    """A subject whose model has another forward."""
    broken = type("Broken", (base,), {"forward": forward})

    def build(num_items: int, seed: int, embedding_dim: int = 8):
        torch.manual_seed(seed)
        return broken(num_items, embedding_dim)

    return Probe(toy(build_model=build))


def sees_the_future(self, item_ids):
    hidden, _ = self.core(self.embedding(item_ids))
    return self.head(hidden + hidden.flip(1))


def runs_over_the_batch(self, item_ids):
    hidden, _ = self.core(self.embedding(item_ids).transpose(0, 1))
    return self.head(hidden.transpose(0, 1))


def ignores_the_core(self, item_ids):
    return self.head(self.embedding(item_ids))


def keeps_its_state(self, item_ids):
    state = getattr(self, "kept", None)
    if state is not None and state.shape[1] != len(item_ids):
        state = None
    hidden, self.kept = self.core(self.embedding(item_ids), state)
    return self.head(hidden)


@pytest.mark.parametrize(
    ("forward", "stage"),
    [
        (sees_the_future, "causal"),
        (runs_over_the_batch, "batch"),
        (ignores_the_core, "core"),
        (keeps_its_state, "state"),
    ],
)
def test_wrong_flow_is_found_and_placed(toy, toy_model_class, forward, stage: str) -> None:
    finding = answer(QUESTION, built_from(toy, toy_model_class, forward))
    assert (finding.verdict, finding.stage) == ("faulty", stage)


def test_randomness_in_eval_mode_is_no_leak(toy, toy_model_class) -> None:
    def noisy(self, item_ids):
        hidden, _ = self.core(torch.dropout(self.embedding(item_ids), 0.5, train=True))
        return self.head(hidden)

    assert answer(QUESTION, built_from(toy, toy_model_class, noisy)).verdict == "healthy"


def test_a_single_row_leaves_the_question_open(toy) -> None:
    original = toy().make_batches

    def single(prepared, seed, epoch):
        for batch in original(prepared, seed, epoch):
            yield batch.rows(slice(0, 1))

    assert answer(QUESTION, Probe(toy(make_batches=single))).verdict == "undetermined"


def test_at_the_limit(healthy: Probe) -> None:
    evidence = measure(healthy)
    for factor, verdict in ((1.0, "healthy"), (1.001, "faulty")):
        leak = dataclasses.replace(evidence.future, largest_change=LIMITS["future"].value * factor)
        assert judge(dataclasses.replace(evidence, future=leak), LIMITS).verdict == verdict


def test_a_declared_encoder_may_see_the_future(healthy: Probe) -> None:
    evidence = measure(healthy)
    leak = dataclasses.replace(evidence.future, largest_change=1.0)
    changed = dataclasses.replace(evidence, future=leak, is_causal_task=False)
    assert judge(changed, LIMITS).verdict == "healthy"


def test_what_is_declared_of_memory_and_state_is_seen(toy, healthy: Probe) -> None:
    """The healthy program remembers and carries nothing over, whatever is declared of it."""
    subject = toy()
    said = dataclasses.replace(subject.declared, reads_history=False, stateful=True)
    finding = answer(QUESTION, Probe(subject.replace(declared=said)))
    by_name = {check.name: check.verdict for check in finding.checks}
    assert [v for name, v in by_name.items() if "before it changes" in name] == ["healthy"]
    assert [v for name, v in by_name.items() if "in between" in name] == ["healthy"]
    evidence = dataclasses.replace(measure(healthy), reads_history=False)
    memory = dataclasses.replace(evidence.memory, of_earlier_event=0.0)
    forgetful = judge(dataclasses.replace(evidence, memory=memory), LIMITS)
    assert "move scores by 0" in " ".join(check.proof for check in forgetful.checks)
