from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.serving.history import History
from tasks.serving.incremental import IncrementalRecommender, RecurrentForm, WindowForm, form_of
from tasks.serving.recommend import score_batch
from tasks.settings import TrainSettings
from tasks.training.models import MODELS, NeuralRecommender, load_recommender, model_spec
from tests.serving.conftest import MAX_SEQ_LEN


def load(project: Path, name: str):
    return load_recommender(project / "artifacts" / "models" / name / "seed_0")


def random_history(length: int, seed: int = 0) -> History:
    generator = np.random.default_rng(seed)
    items = generator.integers(1, 31, length)
    return History(items, np.cumsum(generator.integers(1, 10**12, length)))


@pytest.mark.parametrize("name", [spec.name for spec in MODELS])
def test_scores_after_each_event_are_those_of_the_whole_history(project: Path, name: str) -> None:
    model = load(project, name)
    history = random_history(MAX_SEQ_LEN)
    incremental = IncrementalRecommender(model, max_len=MAX_SEQ_LEN, max_users=4)
    for end in range(1, MAX_SEQ_LEN + 1):
        incremental.feed("u", int(history.items[end - 1]), int(history.times[end - 1]))
        incremental.feed("other", 1 + end % 30, 0)
        part = History(history.items[:end], history.times[:end])
        expected = score_batch(model, [part], MAX_SEQ_LEN)
        found = incremental.scores("u")
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert incremental.events("u") == MAX_SEQ_LEN


@pytest.mark.parametrize("name", ["gru", "lstm", "xlstm"])
def test_recurrent_models_go_on_from_a_history_of_any_length(project: Path, name: str) -> None:
    model = load(project, name)
    history = random_history(5 * MAX_SEQ_LEN)
    incremental = IncrementalRecommender(model, max_len=MAX_SEQ_LEN)
    assert isinstance(incremental.form, RecurrentForm)
    incremental.start("u", History(history.items[:40], None))
    for item in history.items[40:]:
        incremental.feed("u", int(item))
    with torch.inference_mode():
        expected = model.model.last_scores(
            torch.as_tensor(history.items)[None], torch.tensor([len(history.items)])
        )
        found = incremental.scores("u")
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["sasrec", "transitions"])
def test_other_models_keep_their_window(project: Path, name: str) -> None:
    model = load(project, name)
    assert isinstance(form_of(model, MAX_SEQ_LEN), WindowForm)
    history = random_history(3 * MAX_SEQ_LEN)
    incremental = IncrementalRecommender(model, max_len=MAX_SEQ_LEN)
    for item in history.items:
        incremental.feed("u", int(item))
    found = incremental.scores("u")
    torch.testing.assert_close(found, score_batch(model, [history], MAX_SEQ_LEN))


def test_a_model_that_reads_times_gets_them_with_each_event() -> None:
    settings = TrainSettings().xlstm.model_dump() | {"embedding_dim": 8, "time_gaps": True}
    model = model_spec("xlstm").build(30, settings, max_seq_len=MAX_SEQ_LEN)
    assert isinstance(model, NeuralRecommender)
    with torch.no_grad():
        for parameter in model.model.parameters():
            parameter.add_(0.1)
    history = random_history(9)
    incremental = IncrementalRecommender(model, max_len=MAX_SEQ_LEN)
    incremental.start("u", History(history.items[:4], history.times[:4]))
    for item, time in zip(history.items[4:], history.times[4:], strict=True):
        incremental.feed("u", int(item), int(time))
    found = incremental.scores("u")
    torch.testing.assert_close(found, score_batch(model, [history], 16), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="reads times"):
        incremental.feed("u", 1)


def test_dropped_users_start_again_from_their_history(project: Path) -> None:
    asked = []

    def history_of(user: str) -> History:
        asked.append(user)
        return History(np.array([3, 4]), None)

    incremental = IncrementalRecommender(
        load(project, "gru"), max_len=MAX_SEQ_LEN, max_users=2, history_of=history_of
    )
    for user in ("a", "b", "a", "c", "b"):
        incremental.feed(user, 5)
    assert asked == ["a", "b", "c", "b"]
    assert incremental.store.evicted == 2
    assert incremental.events("b") == 3
    assert len(incremental.store) == 2


def test_recommendations_leave_out_the_last_seen_items(project: Path) -> None:
    incremental = IncrementalRecommender(load(project, "gru"), max_len=16, seen_window=3)
    incremental.start("u", History(np.arange(1, 6), None))
    incremental.feed("u", 6)
    listed = incremental.recommend("u", 30).items
    assert set(range(1, 31)) - set(listed) == {4, 5, 6}


def test_a_user_without_events_is_answered_by_popularity_or_refused(project: Path) -> None:
    counts = np.arange(31)
    answering = IncrementalRecommender(load(project, "gru"), max_len=16, popularity=counts)
    found = answering.recommend("nobody", 2)
    assert (found.items, found.answered_by) == ([30, 29], "popularity")
    refusing = IncrementalRecommender(load(project, "gru"), max_len=16)
    with pytest.raises(ValueError, match="no event is known"):
        refusing.recommend("nobody", 2)


@pytest.mark.parametrize("item", [0, -1, 31])
def test_an_item_outside_the_vocabulary_is_refused(project: Path, item: int) -> None:
    incremental = IncrementalRecommender(load(project, "lstm"), max_len=16)
    with pytest.raises(ValueError, match=r"expected an encoded id in 1\.\.30"):
        incremental.feed("u", item)
