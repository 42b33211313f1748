"""X12: fires, stays quiet, undetermined where nothing was learned, at the limits."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tasks.diagnostics.conclusion import calls_for_interventions
from tasks.diagnostics.engine import answer, diagnose_findings
from tasks.diagnostics.finding import Repeat
from tasks.diagnostics.measurements import ablations
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.questions.features_used import LIMITS, QUESTION, judge, measure
from tests.diagnostics.conftest import make_log
from tests.diagnostics.questions.conftest import train_toy

DAY = 86_400_000_000


def test_a_trained_program_uses_its_items(healthy_trained: Probe) -> None:
    assert answer(QUESTION, healthy_trained).verdict == "healthy"


def test_undetermined_before_and_without_learning(toy, trained) -> None:
    assert answer(QUESTION, Probe(toy(), "after_training")).verdict == "undetermined"
    slow = {"make_optimizer": lambda m: torch.optim.AdamW(m.parameters(), lr=1e-5)}
    assert answer(QUESTION, trained(epochs=3, **slow)).verdict == "undetermined"


def test_an_evaluation_that_hides_the_history_is_found(toy, trained) -> None:
    """Trained on histories, scored without them: renaming items costs nothing."""
    score = toy().score

    def blind(model, item_ids, lengths, times):
        return score(model, torch.where(item_ids > 0, 1, 0), lengths, times)

    probe = trained(score=blind, log=make_log(num_users=150), epochs=20)
    finding = answer(QUESTION, probe)
    assert (finding.verdict, finding.stage) == ("suspect", "embedding")
    assert calls_for_interventions(diagnose_findings("toy", "after_training", [finding]))
    finding = answer(QUESTION, Probe(probe.subject, "deep"))
    assert (finding.verdict, finding.stage) == ("faulty", "embedding")


def test_a_log_without_order_is_not_judged(toy, trained) -> None:
    log = make_log(num_users=80)
    mixed = dataclasses.replace(log, item=np.random.default_rng(0).permutation(log.item))
    assert answer(QUESTION, trained(log=mixed, epochs=10)).verdict == "not_applicable"


@pytest.mark.parametrize("field", ["items", "order"])
def test_at_the_limit(field: str, healthy_trained: Probe) -> None:
    evidence = measure(healthy_trained)
    for share, verdict in ((0.2, "healthy"), (0.19, "faulty")):
        spoiled = dataclasses.replace(
            getattr(evidence.ablations, field),
            loss=share,
            by_counting=1.0,
            p_unused=0.0,
            matters=True,
        )
        changed = dataclasses.replace(evidence.ablations, **{field: spoiled})
        again = {f"{field}_again": Repeat(0.0, 0.01)}
        finding = judge(dataclasses.replace(evidence, ablations=changed, **again), LIMITS)
        assert finding.verdict == verdict


class Timed(nn.Module):
    """Adds a feature of the gap to the event before; `late` takes the one before that."""

    def __init__(self, base: nn.Module, shift: int) -> None:
        super().__init__()
        self.base, self.shift = base, shift
        self.gap = nn.Linear(1, 8)

    def forward(self, item_ids: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        gaps = torch.diff(times, dim=1, prepend=times[:, :1]).float() / DAY
        gaps = torch.where(item_ids > 0, gaps, 0.0)
        moved = torch.roll(gaps, self.shift, dims=1)
        if self.shift:
            moved[:, 0 if self.shift > 0 else -1] = 0.0
        hidden, _ = self.base.core(self.base.embedding(item_ids) + self.gap(moved[..., None]))
        return self.base.head(hidden)


def timed(toy, shift: int) -> Any:
    subject = toy()
    build, batches = subject.build_model, subject.make_batches

    def with_times(prepared, seed, epoch):
        for batch in batches(prepared, seed, epoch):
            start = torch.arange(len(batch.item_ids))[:, None] * DAY
            days = torch.arange(batch.item_ids.shape[1]).square() * DAY
            yield batch._replace(times=(start + days) * batch.mask)

    def build_timed(num_items: int, seed: int, embedding_dim: int = 8) -> Timed:
        return Timed(build(num_items, seed, embedding_dim), shift)

    def logits(model, batch):
        return model(batch.item_ids, batch.times)

    def score(model, item_ids, lengths, times):
        with torch.no_grad():
            scores = model.eval()(item_ids, times)[torch.arange(len(lengths)), lengths - 1]
        return scores

    return toy(
        declared=dataclasses.replace(subject.declared, uses_times=True),
        build_model=build_timed,
        make_batches=with_times,
        logits=logits,
        score=score,
        loss=lambda model, batch: subject.criterion(logits(model, batch), batch),
    )


@pytest.mark.parametrize(("shift", "broken"), [(0, []), (1, ["before it"]), (-1, ["after it"])])
def test_a_time_feature_on_the_wrong_event_is_found(toy, shift: int, broken: list[str]) -> None:
    subject = timed(toy, shift)
    subject = subject.replace(trained=train_toy(subject, 0, epochs=2))
    finding = answer(QUESTION, Probe(subject, "after_training"))
    wrong = [c for c in finding.checks if c.broken and c.stage == "time" and c.rule == "exact"]
    named = {word for word in ("before it", "after it") for c in wrong if word in c.name}
    assert set(broken) <= named
    assert bool(wrong) == bool(broken)


def times_of(finding) -> list:
    return [check for check in finding.checks if "by the time of" in check.name]


def test_that_no_times_are_read_is_seen_and_not_believed(toy) -> None:
    untimed = answer(QUESTION, Probe(toy()))
    assert {c.verdict for c in times_of(untimed)} == {"not_applicable"}

    subject = timed(toy, 0)
    silent = dataclasses.replace(subject.declared, uses_times=False)
    checks = times_of(answer(QUESTION, Probe(subject.replace(declared=silent))))
    assert {c.verdict for c in checks} == {"undetermined"}
    assert all("times that move scores" in c.missing for c in checks)

    deaf = timed(toy, 0)
    with_batches = toy(make_batches=deaf.make_batches)
    (first, second) = times_of(answer(QUESTION, Probe(with_batches)))
    assert first.proof == second.proof == "times move scores by 0: the model reads none"


def test_changes_keep_padding_and_what_they_do_not_change() -> None:
    ids = torch.tensor([[1, 2, 3, 0], [4, 0, 0, 0]])
    times = torch.tensor([[10, 11, 15, 0], [7, 0, 0, 0]])
    lengths = torch.tensor([3, 1])
    renamed, same = ablations.renamed(5, seed=0)(ids, lengths, times)
    assert ((renamed == 0) == (ids == 0)).all()
    assert (renamed[ids > 0] != ids[ids > 0]).all()
    assert torch.equal(same, times)
    mixed, _ = ablations.shuffled(0)(ids, lengths, times)
    assert sorted(mixed[0].tolist()) == [0, 1, 2, 3]
    assert mixed[0, 3] == 0
    items, gaps = ablations.other_gaps(1)(ids, lengths, times)
    assert torch.equal(items, ids)
    assert gaps[0].tolist() in ([10, 11, 15, 0], [10, 14, 15, 0])
    assert gaps[1].tolist() == [
        7,
        0,
        0,
        0,
    ]
