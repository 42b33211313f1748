"""Every neural model keeps the contract of recommenders; count models are found by name."""

from __future__ import annotations

import json
import typing

import numpy as np
import pytest
import torch

from tasks.baselines.contract import Recommender
from tasks.baselines.model_files import ModelFilesError
from tasks.settings import ModelName, TrainSettings
from tasks.training.models import MODELS, CountModel, NeuralModel, load_recommender, model_spec

NEURAL = [spec.name for spec in MODELS if isinstance(spec, NeuralModel)]
NUM_ITEMS, MAX_SEQ_LEN = 9, 5
HISTORIES = [[3], [1, 2, 9], [4, 4, 4, 4, 4], [], [7, 8, 1, 2]]


def section(name, **overrides):
    small = {"embedding_dim": 8, "dropout": 0.3} | overrides
    return getattr(TrainSettings(), name).model_dump() | small


@pytest.fixture(params=NEURAL)
def recommender(request):
    return model_spec(request.param).build(
        NUM_ITEMS, section(request.param), max_seq_len=MAX_SEQ_LEN, seed=4
    )


def pad(histories, width=MAX_SEQ_LEN, fill=0):
    item_ids = torch.full((len(histories), width), fill, dtype=torch.int64)
    for row, history in enumerate(histories):
        item_ids[row, : len(history)] = torch.tensor(history, dtype=torch.int64)
    return item_ids, torch.tensor([len(history) for history in histories])


def assert_close(first, second):
    torch.testing.assert_close(first[:, 1:], second[:, 1:], rtol=1e-5, atol=1e-6)


def test_scores_are_complete(recommender):
    assert isinstance(recommender, Recommender)
    scores = recommender.score(*pad(HISTORIES))
    assert scores.shape == (5, NUM_ITEMS + 1)
    assert scores.dtype == torch.float32
    assert (scores[:, 0] == -torch.inf).all()
    assert scores[:, 1:].isfinite().all()
    assert not scores.requires_grad


def test_scores_are_deterministic_even_after_training_mode(recommender):
    first = recommender.score(*pad(HISTORIES))
    recommender.model.train()
    assert torch.equal(recommender.score(*pad(HISTORIES)), first)


def test_rows_do_not_touch_each_other(recommender):
    together = recommender.score(*pad(HISTORIES))
    for row, history in enumerate(HISTORIES):
        assert_close(recommender.score(*pad([history])), together[row : row + 1])


@pytest.mark.parametrize(("width", "fill"), [(5, 7), (5, 9999), (12, 0), (12, 3)])
def test_padding_is_not_read(recommender, width, fill):
    expected = recommender.score(*pad(HISTORIES))
    assert_close(recommender.score(*pad(HISTORIES, width, fill)), expected)


def test_the_history_and_its_order_are_read(recommender):
    scores = recommender.score(*pad([[1, 2, 3], [3, 2, 1], [1, 2, 4]]))
    assert not torch.allclose(scores[0, 1:], scores[1, 1:])
    assert not torch.allclose(scores[0, 1:], scores[2, 1:])


def test_only_the_most_recent_events_are_read(recommender):
    long = [[9, 8, 7, 1, 2, 3, 4, 5], [6], [5, 4, 3, 2, 1, 9]]
    times = torch.arange(24).reshape(3, 8)
    expected = recommender.score(*pad([history[-MAX_SEQ_LEN:] for history in long]))
    assert_close(recommender.score(*pad(long, width=8), times), expected)


def test_nobody_with_a_history(recommender):
    empty = recommender.score(torch.zeros(2, 0, dtype=torch.int64), torch.zeros(2).long())
    assert_close(empty, recommender.score(*pad([[], []])))
    assert recommender.score(*pad([])).shape == (0, NUM_ITEMS + 1)


def test_saved_and_loaded_scores_are_equal(recommender, tmp_path):
    recommender.save(tmp_path)
    before = torch.get_rng_state()
    loaded = load_recommender(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert (loaded.name, loaded.num_items) == (recommender.name, NUM_ITEMS)
    assert loaded.settings == recommender.settings
    assert loaded.max_seq_len == MAX_SEQ_LEN
    assert torch.equal(loaded.score(*pad(HISTORIES)), recommender.score(*pad(HISTORIES)))
    fields = json.loads((tmp_path / "model.json").read_text())
    assert fields["num_parameters"] == sum(p.numel() for p in recommender.model.parameters())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


def test_weights_depend_on_the_seed_alone():
    def weights(seed):
        torch.rand(3)
        built = model_spec("xlstm").build(9, section("xlstm"), max_seq_len=5, seed=seed)
        return torch.cat([p.flatten() for p in built.model.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_building_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    model_spec("gru").build(9, section("gru"), max_seq_len=5)
    assert torch.equal(torch.get_rng_state(), before)


def test_times_are_read_where_the_settings_say_so():
    built = model_spec("xlstm").build(9, section("xlstm", time_gaps=True), max_seq_len=5, seed=0)
    item_ids, lengths = pad([[1, 2, 3]])
    near = torch.tensor([[0, 10, 20, 0, 0]]) * 1_000_000
    far = torch.tensor([[0, 10, 90_000, 0, 0]]) * 1_000_000
    scores = built.score(item_ids, lengths, near)
    assert not torch.allclose(scores[:, 1:], built.score(item_ids, lengths, far)[:, 1:])


def test_settings_reach_the_cores():
    xlstm = model_spec("xlstm").build(
        9,
        section("xlstm", pattern="mms", num_layers=2, num_heads=4, conv_kernel=2),
        max_seq_len=5,
    )
    assert xlstm.model.sequence_model.pattern == "mmsmms"
    assert xlstm.model.sequence_model.settings["conv_kernel"] == 2
    sasrec = model_spec("sasrec").build(9, section("sasrec", num_layers=3), max_seq_len=5)
    assert len(sasrec.model.sequence_model.blocks) == 3
    assert sasrec.model.sequence_model.max_seq_len == 5
    gru = model_spec("gru").build(9, section("gru", num_layers=2, tied=False), max_seq_len=5)
    assert len(gru.model.sequence_model.layers) == 2
    assert gru.model.output_weight is not None
    assert gru.model.dropout.p == 0.3


COUNT_MODELS = [spec for spec in MODELS if isinstance(spec, CountModel)]


@pytest.mark.parametrize("spec", COUNT_MODELS, ids=lambda spec: spec.name)
def test_count_models_fit_save_and_load(spec, tmp_path):
    rng = np.random.default_rng(0)
    items = rng.integers(1, NUM_ITEMS + 1, size=400).astype(np.int32)
    offsets = np.arange(0, 401, 20)
    settings = getattr(TrainSettings(), spec.name).model_dump()
    fitted = spec.fit(items, offsets, NUM_ITEMS, settings, seed=1)
    fitted.save(tmp_path)
    loaded = load_recommender(tmp_path)
    assert loaded.name == spec.name
    assert torch.equal(loaded.score(*pad(HISTORIES)), fitted.score(*pad(HISTORIES)))


def test_settings_name_the_same_models():
    assert tuple(spec.name for spec in MODELS) == typing.get_args(ModelName)


def test_unknown_names_and_missing_files_are_explained(tmp_path):
    with pytest.raises(ValueError, match=r"model is 'bert'; expected one of popularity.*xlstm"):
        model_spec("bert")
    with pytest.raises(ModelFilesError, match="does not exist"):
        load_recommender(tmp_path)
    (tmp_path / "model.json").write_text('{"name": "bert"}')
    with pytest.raises(ValueError, match="model is 'bert'"):
        load_recommender(tmp_path)
