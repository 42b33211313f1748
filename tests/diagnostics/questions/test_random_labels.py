"""G2, deep: a training on targets exchanged at random has no skill, unless something leaks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tasks.diagnostics.engine import answer
from tasks.diagnostics.measurements import random_labels
from tasks.diagnostics.measurements.random_labels import RandomLabels, with_random_targets
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.questions.inputs_match_targets import LIMITS, QUESTION, judge, measure
from tests.diagnostics.conftest import make_log


@pytest.fixture(scope="module")
def large(toy):
    """The small program with users enough to tell skill from chance."""
    return toy(log=make_log(num_users=150))


def by_random(finding):
    [check] = [check for check in finding.checks if "exchanged at random" in check.name]
    return check


def test_the_healthy_program_learns_nothing_from_random_targets(large) -> None:
    finding = answer(QUESTION, Probe(large, "deep"))
    assert finding.verdict == "healthy", finding.sentence
    assert by_random(finding).value < 0.25
    assert finding.evidence["random.trainings"]["value"] == 1


def test_a_score_that_knows_the_test_targets_is_found(large) -> None:
    data = large.prepared().data
    known = {
        tuple(np.append(data.train.sequence(user), extra)[-12:]): int(target)
        for user, extra, target in zip(
            data.test.users, data.test.extra.items, data.test.targets, strict=True
        )
    }

    def score(model, item_ids, lengths, times):
        scores = large.score(model, item_ids, lengths, times).clone()
        for row, (items, length) in enumerate(
            zip(item_ids.tolist(), lengths.tolist(), strict=True)
        ):
            target = known.get(tuple(items[:length]))
            if target and model.trained_here:
                scores[row, target] = 99.0
        return scores

    def step(loss, model, optimizer, batch):
        model.trained_here = True
        return large.train_step(loss, model, optimizer, batch)

    def build(num_items, seed, embedding_dim=8):
        model = large.build_model(num_items, seed, embedding_dim)
        model.trained_here = False
        return model

    subject = large.replace(score=score, train_step=step, build_model=build)
    finding = answer(QUESTION, Probe(subject, "deep"))
    assert by_random(finding).verdict == "faulty", finding.sentence
    assert finding.evidence["random.trainings"]["value"] == 2


def test_undetermined_without_the_deep_mode_and_without_targets(large, healthy: Probe) -> None:
    check = by_random(answer(QUESTION, healthy))
    assert (check.verdict, check.missing) == ("undetermined", "run `assay diagnose --deep`")

    def by_items(model, batch):
        return model(batch.item_ids)[..., 1:].logsumexp(dim=-1).mean()

    blind = by_random(answer(QUESTION, Probe(large.replace(loss=by_items), "deep")))
    assert blind.missing == "a loss that reads the targets of its batch"


@pytest.mark.parametrize(("share", "verdict"), [(0.25, "healthy"), (0.26, "faulty")])
def test_at_the_limit(healthy: Probe, share: float, verdict: str) -> None:
    evidence = dataclasses.replace(measure(healthy), random=RandomLabels(share, 1e-9, 2))
    assert judge(evidence, LIMITS).verdict == verdict


def test_targets_change_places_and_stay_the_same_ones(large) -> None:
    prepared = large.prepared()
    before = list(large.make_batches(prepared, 0, 0))
    after = list(with_random_targets(large).make_batches(prepared, 0, 0))

    def targets(batches):
        return torch.cat([batch.targets[batch.asked] for batch in batches])

    assert torch.equal(targets(before).sort().values, targets(after).sort().values)
    assert not torch.equal(targets(before), targets(after))
    assert all(torch.equal(a.item_ids, b.item_ids) for a, b in zip(before, after, strict=True))
    assert random_labels.exchanged([], torch.Generator()) == []
