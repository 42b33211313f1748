from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.serving.history import History
from tasks.serving.recommend import EmptyHistoryError, recommend
from tasks.training.models import MODELS, load_recommender


def histories(*lengths: int) -> list[History]:
    generator = np.random.default_rng(0)
    return [History(generator.integers(1, 31, n), np.arange(n)) for n in lengths]


@pytest.mark.parametrize("name", [spec.name for spec in MODELS])
def test_answers_come_in_the_order_asked_whatever_the_batches(
    project: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_recommender(project / "artifacts" / "models" / name / "seed_0")
    asked = histories(9, 1, 40, 3, 3, 17)
    together = recommend(model, asked, top_k=30, max_len=16)
    monkeypatch.setattr("tasks.serving.recommend.MAX_SCORES_AT_ONCE", 62)  # two rows at a time
    apart = recommend(model, asked, top_k=30, max_len=16)
    alone = [recommend(model, [each], top_k=30, max_len=16)[0] for each in asked]
    for first, second, third in zip(together, apart, alone, strict=True):
        assert first.scores == pytest.approx(second.scores, abs=1e-5)
        assert first.scores == pytest.approx(third.scores, abs=1e-5)
        assert first.answered_by == name


def test_few_long_histories_are_shown_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Recorder:
        name, num_items, shapes = "recorder", 30, []

        def score(self, item_ids, lengths, times=None):
            self.shapes.append(tuple(item_ids.shape))
            return torch.zeros(len(item_ids), 31).index_fill(1, torch.tensor([0]), -torch.inf)

    model = Recorder()
    monkeypatch.setattr("tasks.serving.recommend.MAX_EVENTS_AT_ONCE", 40)
    found = recommend(model, histories(9, 1, 45, 4, 3, 17), top_k=1, max_len=25)
    assert model.shapes == [(1, 25), (2, 17), (3, 4)]
    assert len(found) == 6
    monkeypatch.setattr("tasks.serving.recommend.MAX_EVENTS_AT_ONCE", 5)
    assert len(recommend(model, histories(9, 9), top_k=1, max_len=25)) == 2


def test_only_the_last_events_are_shown_but_all_are_left_out() -> None:
    class Recorder:
        name, num_items = "recorder", 6

        def score(self, item_ids, lengths, times=None):
            self.shown = item_ids, lengths, times
            return (
                torch.arange(7.0)
                .repeat(len(item_ids), 1)
                .index_fill(1, torch.tensor([0]), -torch.inf)
            )

    model = Recorder()
    asked = [History(np.array([6, 1, 2, 3]), np.array([5, 6, 7, 8]))]
    (found,) = recommend(model, asked, top_k=9, max_len=2, exclude_seen=True)
    assert model.shown[0].tolist() == [[2, 3]]
    assert model.shown[2].tolist() == [[7, 8]]
    assert found.items == [5, 4]


def test_empty_histories_are_answered_by_popularity_or_refused(project: Path) -> None:
    model = load_recommender(project / "artifacts" / "models" / "gru" / "seed_0")
    asked = histories(2, 0)
    found = recommend(model, asked, top_k=2, max_len=9, popularity=np.arange(31))
    assert [each.answered_by for each in found] == ["gru", "popularity"]
    assert (found[1].items, found[1].scores) == ([30, 29], [30.0, 29.0])
    with pytest.raises(EmptyHistoryError, match="history 2 of 2 holds no item"):
        recommend(model, asked, top_k=2, max_len=9)


def test_top_k_of_none_is_refused(project: Path) -> None:
    model = load_recommender(project / "artifacts" / "models" / "gru" / "seed_0")
    with pytest.raises(ValueError, match="top_k is 0"):
        recommend(model, histories(2), top_k=0, max_len=9)
