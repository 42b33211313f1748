"""The language model: its loss is computed, and generation goes on from recurrent state."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from xlstm_model import XLSTMLanguageModel, XLSTMStack, lengths_to_mask
from xlstm_model.sampling import choose_token, keep_likeliest

VOCAB = 11


def _model(pattern="ms", **settings) -> XLSTMLanguageModel:
    torch.manual_seed(0)
    model = XLSTMLanguageModel(VOCAB, XLSTMStack(8, pattern, num_heads=2), **settings).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.fixture
def model() -> XLSTMLanguageModel:
    return _model()


def test_loss_is_the_mean_negative_log_probability_of_the_next_token(model):
    tokens = torch.randint(0, VOCAB, (3, 6))
    mask = lengths_to_mask(torch.tensor([6, 4, 1]), 6)
    total, pairs = 0.0, 0
    for row, length in enumerate([6, 4, 1]):
        for t in range(1, length):
            logits, _ = model(tokens[row : row + 1, :t])
            total -= logits[0, -1].log_softmax(-1)[tokens[row, t]].item()
            pairs += 1
    assert pairs == 8
    assert model.loss(tokens, mask=mask).item() == pytest.approx(total / pairs, abs=1e-9)
    assert model.loss(tokens[:1]).item() == pytest.approx(
        model.loss(tokens[:1], mask=mask[:1]).item(), abs=1e-12
    )


def test_padding_content_and_side_do_not_change_the_loss(model):
    tokens = torch.randint(0, VOCAB, (2, 6))
    mask = lengths_to_mask(torch.tensor([6, 3]), 6)
    other = torch.where(mask, tokens, 7)
    assert torch.equal(model.loss(tokens, mask=mask), model.loss(other, mask=mask))
    left = torch.stack([tokens[0], torch.cat([tokens[1, 3:], tokens[1, :3]])])
    left_mask = torch.stack([mask[0], mask[1].flip(0)])
    torch.testing.assert_close(model.loss(left, mask=left_mask), model.loss(tokens, mask=mask))


def test_loss_without_pairs(model):
    tokens = torch.zeros(1, 3, dtype=torch.int64)
    assert model.loss(tokens, mask=torch.tensor([[True, False, True]])).item() == 0.0
    with pytest.raises(ValueError, match="tokens has 1 positions; expected at least 2"):
        model.loss(tokens[:, :1])


def test_training_learns_to_count_and_to_generate():
    torch.manual_seed(0)
    model = XLSTMLanguageModel(5, XLSTMStack(16, "ms", num_heads=2))
    tokens = (torch.arange(12) + torch.arange(5)[:, None]) % 5
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        loss = model.loss(tokens)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3 < math.log(5)
    prompts = torch.tensor([[1, 2, 3], [4, 0, 1]])
    assert model.generate(prompts, max_new_tokens=4).tokens.tolist() == [[4, 0, 1, 2], [2, 3, 4, 0]]


def test_greedy_generation_equals_reading_everything_again(model):
    prompt = torch.randint(0, VOCAB, (2, 4))
    result = model.generate(prompt, max_new_tokens=6)
    tokens = prompt
    for _ in range(6):
        logits, _ = model(tokens)
        tokens = torch.cat([tokens, logits[:, -1].argmax(-1, keepdim=True)], 1)
    assert torch.equal(result.tokens, tokens[:, 4:])
    assert result.lengths.tolist() == [6, 6]


@pytest.mark.parametrize("side", ["left", "right"])
def test_prompts_of_unequal_length_go_on_as_each_alone(model, side):
    lengths = torch.tensor([5, 1, 3])
    prompts = torch.randint(0, VOCAB, (3, 5))
    mask = lengths_to_mask(lengths, 5)
    mask = mask.flip(1) if side == "left" else mask
    result = model.generate(prompts, max_new_tokens=5, mask=mask)
    for row in range(3):
        alone = model.generate(prompts[row : row + 1, mask[row]], max_new_tokens=5)
        assert torch.equal(result.tokens[row], alone.tokens[0])


def test_cost_per_token_does_not_grow(model, monkeypatch):
    calls = {"forward": [], "step": []}
    stack = model.sequence_model
    for name in calls:
        inner = getattr(stack, name)
        monkeypatch.setattr(
            stack,
            name,
            lambda x, *a, f=inner, n=name, **k: calls[n].append(x.shape) or f(x, *a, **k),
        )
    model.generate(torch.zeros(2, 4, dtype=torch.int64), max_new_tokens=9)
    assert calls == {"forward": [(2, 4, 8)], "step": [(2, 8)] * 8}


def test_stop_tokens_end_each_sample_on_its_own(model):
    free = model.generate(torch.tensor([[1], [2], [3]]), max_new_tokens=12)
    stop = free.tokens[0, 2].item()
    result = model.generate(
        torch.tensor([[1], [2], [3]]), max_new_tokens=12, stop_tokens={stop}, padding_token=99
    )
    for row in range(3):
        expected = free.tokens[row].tolist()
        end = expected.index(stop) + 1 if stop in expected else len(expected)
        length = result.lengths[row].item()
        assert length == end
        assert result.tokens[row, :length].tolist() == expected[:end]
        assert (result.tokens[row, length:] == 99).all()


def test_generation_ends_when_all_have_stopped(model):
    first = model.generate(torch.tensor([[1]]), max_new_tokens=1).tokens.item()
    result = model.generate(torch.tensor([[1]]), max_new_tokens=50, stop_tokens=[first])
    assert result.tokens.shape == (1, 1)


def test_sampling_follows_the_generator_and_the_temperature(model):
    prompt = torch.zeros(200, 2, dtype=torch.int64)

    def draw(seed, **settings):
        return model.generate(
            prompt,
            max_new_tokens=1,
            strategy="sample",
            generator=torch.Generator().manual_seed(seed),
            **settings,
        ).tokens

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    greedy = model.generate(prompt, max_new_tokens=1).tokens
    assert torch.equal(draw(1, temperature=1e-4), greedy)
    assert torch.equal(draw(1, top_k=1), greedy)
    assert torch.equal(draw(1, top_p=1e-6), greedy)
    assert draw(1, top_k=3).unique().numel() <= 3


def test_draws_have_the_models_probabilities():
    logits = torch.tensor([[0.0, 1.0, 2.0]]).expand(20_000, 3)
    tokens = choose_token(logits, "sample", generator=torch.Generator().manual_seed(0))
    share = torch.bincount(tokens) / 20_000
    torch.testing.assert_close(share, logits[0].softmax(-1), atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("top_k", "top_p", "kept"),
    [(4, 1.0, [0, 1, 2, 3]), (2, 1.0, [1, 3]), (9, 0.45, [1]), (9, 0.5, [1]), (9, 0.51, [1, 3]),
     (9, 0.81, [0, 1, 3]), (3, 0.9, [0, 1, 3]), (1, 0.01, [1])],
)  # fmt: skip
def test_which_tokens_are_kept(top_k, top_p, kept):
    logits = torch.tensor([[0.15, 0.5, 0.05, 0.3]], dtype=torch.float64).log()
    result = keep_likeliest(logits, top_k, top_p)
    assert torch.isfinite(result[0]).nonzero().flatten().tolist() == kept


def test_dropout_is_off_in_generation_and_the_mode_restored():
    model = _model(dropout=0.5).train()
    prompt = torch.tensor([[1, 2]])
    one, other = (model.generate(prompt, max_new_tokens=5).tokens for _ in range(2))
    assert torch.equal(one, other)
    assert model.training
    model.eval()
    assert torch.equal(model.generate(prompt, max_new_tokens=5).tokens, one)
    assert not model.training


def test_generation_goes_on_from_the_returned_state(model):
    prompt = torch.tensor([[1, 2]])
    whole = model.generate(prompt, max_new_tokens=6)
    part = model.generate(prompt, max_new_tokens=3)
    logits, _ = model.step(part.tokens[:, -1], part.state)
    assert logits.argmax(-1).item() == whole.tokens[0, 3].item()


def test_logits_are_capped_smoothly():
    model = _model(logit_cap=0.5)
    logits, _ = model(torch.randint(0, VOCAB, (2, 5)))
    assert logits.abs().max() < 0.5
    free = XLSTMLanguageModel(VOCAB, model.sequence_model).double()
    free.load_state_dict(model.state_dict())
    tokens = torch.randint(0, VOCAB, (2, 5))
    torch.testing.assert_close(model(tokens)[0], 0.5 * torch.tanh(free(tokens)[0] / 0.5))


def test_tied_and_untied_heads_train():
    for tied in (True, False):
        model = _model(tied=tied)
        model.loss(torch.randint(0, VOCAB, (2, 5))).backward()
        assert all(p.grad.abs().sum() > 0 for p in model.parameters())
        assert (model.output_weight is None) == tied


REFUSED = [
    ({"max_new_tokens": 0}, "max_new_tokens is 0"),
    ({"strategy": "beam"}, "strategy is 'beam'"),
    ({"temperature": 0.0}, "temperature is 0.0"),
    ({"top_k": 0}, "top_k is 0"),
    ({"top_p": 1.5}, "top_p is 1.5"),
    ({"mask": torch.tensor([[False, False]])}, "prompts has shape .* with an empty prompt"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED)
def test_generation_arguments_out_of_range_are_refused(model, settings, message):
    with pytest.raises(ValueError, match="^" + message):
        model.generate(torch.tensor([[1, 2]]), **{"max_new_tokens": 1} | settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"vocab_size": 0}, "vocab_size is 0"), ({"dropout": 1.0}, "dropout is 1.0"),
     ({"logit_cap": -1.0}, "logit_cap is -1.0")],
)  # fmt: skip
def test_settings_out_of_range_are_refused(settings, message):
    stack = XLSTMStack(8, "m", num_heads=2)
    with pytest.raises(ValueError, match="^" + message):
        XLSTMLanguageModel(**{"vocab_size": 5, "sequence_model": stack} | settings)
    assert isinstance(stack, nn.Module)
