"""Checkpoints: what is written comes back, and what a frozen one gave it still gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from xlstm_model import (
    XLSTM,
    SequenceRecommender,
    XLSTMLanguageModel,
    XLSTMStack,
    build_model,
    load_checkpoint,
    save_checkpoint,
)


def _stack() -> XLSTMStack:
    return XLSTMStack(8, "ms", num_heads=2, mlstm_fgate_bias=(2.0, 4.0), dropout=0.1)


MODELS = {
    "stack": (_stack, lambda m: m(torch.ones(1, 4, 8))[0]),
    "recommender": (
        lambda: SequenceRecommender(9, _stack(), 8, pooling="attention", positions="learned"),
        lambda m: m(torch.tensor([[1, 5, 0]])),
    ),
    "language model": (
        lambda: XLSTMLanguageModel(9, _stack(), tied=False),
        lambda m: m(torch.tensor([[1, 5, 0]]))[0],
    ),
    "drop-in": (
        lambda: XLSTM(3, 8, 2, bidirectional=True, conv_kernel=2),
        lambda m: m(torch.ones(4, 1, 3))[0],
    ),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_saved_model_comes_back_the_same(name, dtype, tmp_path):
    build, run = MODELS[name]
    model = build().to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    save_checkpoint(model, tmp_path)
    again = load_checkpoint(tmp_path)
    assert not again.training
    assert {p.dtype for p in again.parameters()} == {dtype}
    for (name_a, a), (_, b) in zip(
        model.state_dict().items(), again.state_dict().items(), strict=True
    ):
        assert torch.equal(a, b), name_a
    if dtype == torch.float32:
        assert torch.equal(run(model), run(again))
    assert json.loads(json.dumps(again.settings)) == json.loads(json.dumps(model.settings))


def test_saving_again_replaces_and_leaves_nothing_else(tmp_path):
    save_checkpoint(XLSTMStack(8, "m", num_heads=2), tmp_path)
    save_checkpoint(XLSTMStack(8, "s", num_heads=2), tmp_path)
    assert load_checkpoint(tmp_path).pattern == "s"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


def test_frozen_trained_checkpoint_gives_the_same_scores(repository: Path):
    folder = repository / "tests" / "golden" / "recommender_checkpoint"
    model = load_checkpoint(folder)
    example = load_file(folder / "example.safetensors")
    scores = model.last_scores(example["item_ids"], example["lengths"], example["times"])
    torch.testing.assert_close(scores, example["scores"], atol=1e-5, rtol=0)
    assert scores.argmax(1).tolist() == example["scores"].argmax(1).tolist()
    assert scores.argmax(1).tolist() == example["targets"].tolist()


class _Echo(nn.Module):
    def __init__(self, embedding_dim: int) -> None:
        super().__init__()
        self.settings = {"type": "Echo", "embedding_dim": embedding_dim}
        self.embedding_dim = embedding_dim

    def forward(self, x, *, mask=None, state=None):
        return x, ()

    def step(self, x, state):
        return x, ()

    def initial_state(self, batch_size, *, device=None, dtype=None):
        return ()


def test_sequence_models_of_ones_own_load_by_type(tmp_path):
    save_checkpoint(SequenceRecommender(5, _Echo(4), 4), tmp_path)
    assert isinstance(load_checkpoint(tmp_path, types={"Echo": _Echo}).sequence_model, _Echo)
    with pytest.raises(ValueError, match=r"type is 'Echo'; expected one of SequenceRecommender"):
        load_checkpoint(tmp_path)


def test_unfit_folders_are_refused(tmp_path):
    save_checkpoint(XLSTMStack(8, "m", num_heads=2), tmp_path)
    header = json.loads((tmp_path / "model.json").read_text())
    for change, message in (
        ({"format_version": 99}, "format_version of .* is 99; expected at most 1"),
        ({"format": "other"}, "is not a model of this library"),
        ({"settings": header["settings"] | {"embedding_dim": 16}}, "do not fit its settings"),
    ):
        (tmp_path / "model.json").write_text(json.dumps(header | change))
        with pytest.raises(ValueError, match=message):
            load_checkpoint(tmp_path)
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "nowhere")


def test_models_without_settings_are_refused(tmp_path):
    with pytest.raises(TypeError, match="Linear has no settings dict"):
        save_checkpoint(nn.Linear(1, 1), tmp_path)
    assert not list(tmp_path.iterdir())


def test_settings_build_an_untrained_model():
    model = build_model(SequenceRecommender(5, _stack(), 8).settings)
    assert isinstance(model.sequence_model, XLSTMStack)
    assert model.sequence_model.blocks[0].fgate.bias.tolist() == [2.0, 4.0]
