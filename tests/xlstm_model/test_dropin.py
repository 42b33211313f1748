"""The drop-in: called as ``nn.LSTM`` is, with one state object."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

from xlstm_model import XLSTM, load_state
from xlstm_model.state import named_tensors


def _model(**settings) -> XLSTM:
    torch.manual_seed(0)
    model = XLSTM(**{"input_size": 3, "hidden_size": 8, "num_layers": 2} | settings).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def _x(*shape) -> torch.Tensor:
    return torch.randn(*shape, 3, dtype=torch.float64)


def _equal(one, other) -> bool:
    pairs = zip(named_tensors(one), named_tensors(other), strict=True)
    return all(torch.allclose(a[1], b[1], atol=1e-10) for a, b in pairs)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_output_has_the_shape_of_nn_lstm(batch_first, bidirectional):
    settings = {"batch_first": batch_first, "bidirectional": bidirectional}
    theirs = nn.LSTM(3, 8, 2, **settings).double()
    ours = _model(**settings)
    for x in (_x(5, 2), _x(5)):
        assert ours(x)[0].shape == theirs(x)[0].shape
    packed = pack_sequence([_x(4), _x(2)])
    assert ours(packed)[0].data.shape == theirs(packed)[0].data.shape


def test_swapping_in_for_nn_lstm_needs_no_other_change():
    class Tagger(nn.Module):
        def __init__(self, rnn):
            super().__init__()
            self.rnn, self.out = rnn, nn.Linear(8, 2)

        def forward(self, x):
            output, _ = self.rnn(x)
            return self.out(output)

    x = torch.randn(5, 2, 3)
    shapes = {Tagger(kind(3, 8, num_layers=2, dropout=0.1))(x).shape for kind in (nn.LSTM, XLSTM)}
    assert shapes == {(5, 2, 2)}


def test_batch_first_is_only_a_transposition():
    first, second = _model(batch_first=True), _model()
    second.load_state_dict(first.state_dict())
    x = _x(2, 5)
    torch.testing.assert_close(first(x)[0], second(x.transpose(0, 1))[0].transpose(0, 1))


def test_one_sequence_is_a_batch_of_one():
    model = _model()
    x = _x(5)
    output, state = model(x)
    batched, batched_state = model(x[:, None])
    assert torch.equal(output, batched[:, 0])
    assert _equal(state, batched_state)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("enforce_sorted", [False, True])
def test_packed_sequences_give_what_each_gives_alone(enforce_sorted, bidirectional):
    model = _model(bidirectional=bidirectional)
    sequences = [_x(n) for n in ((5, 3, 1) if enforce_sorted else (3, 5, 1, 3))]
    packed = pack_sequence(sequences, enforce_sorted=enforce_sorted)
    output, state = model(packed)
    assert torch.equal(output.batch_sizes, packed.batch_sizes)
    if not enforce_sorted:
        assert torch.equal(output.sorted_indices, packed.sorted_indices)
    padded, lengths = pad_packed_sequence(output)
    for index, sequence in enumerate(sequences):
        assert lengths[index] == len(sequence)
        alone, own = model(sequence)
        torch.testing.assert_close(padded[: len(sequence), index], alone, atol=1e-10, rtol=0)
        assert _equal(state.index_select(torch.tensor([index])), own)


def test_lengths_equal_packing():
    model = _model(batch_first=True, bidirectional=True)
    x, lengths = _x(3, 5), torch.tensor([5, 2, 4])
    output, state = model(x, lengths=lengths)
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected, packed_state = model(packed)
    padded, _ = pad_packed_sequence(expected, batch_first=True)
    torch.testing.assert_close(output, padded, atol=1e-10, rtol=0)
    assert _equal(state, packed_state)


def test_state_goes_on_where_it_stopped():
    model = _model()
    x = _x(6, 2)
    whole, _ = model(x)
    first, state = model(x[:4])
    second, state = model(x[4:5], state)
    third, _ = model.step(x[5], state)
    torch.testing.assert_close(torch.cat([first, second, third[None]]), whole)


def test_packed_state_is_in_the_order_of_the_batch():
    model = _model()
    sequences = [_x(n) for n in (2, 5, 3)]
    _, state = model(pack_sequence(sequences, enforce_sorted=False))
    more = [_x(n) for n in (4, 1, 2)]
    output, _ = model(pack_sequence(more, enforce_sorted=False), state)
    padded, _ = pad_packed_sequence(output)
    for index in range(3):
        alone, _ = model(torch.cat([sequences[index], more[index]]))
        torch.testing.assert_close(
            padded[: len(more[index]), index], alone[len(sequences[index]) :], atol=1e-10, rtol=0
        )


def test_backward_direction_reads_from_the_end():
    model = _model(bidirectional=True)
    x = _x(6, 1)
    changed = x.clone()
    changed[5] += torch.randn(3, dtype=x.dtype)
    before, after = model(x)[0], model(changed)[0]
    assert torch.equal(before[:5, :, :8], after[:5, :, :8])
    assert (before[:5, :, 8:] - after[:5, :, 8:]).abs().amax(dim=(1, 2)).min() > 1e-6
    earlier = x.clone()
    earlier[0] += torch.randn(3, dtype=x.dtype)
    assert torch.equal(model(earlier)[0][1:, :, 8:], before[1:, :, 8:])


def test_state_operations(tmp_path):
    model = _model()
    _, state = model(_x(4, 3))
    assert next(named_tensors(state))[1].requires_grad
    assert not any(t.requires_grad for _, t in named_tensors(state.detach()))
    x = _x(2, 3)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(
        model(x[:, order], state.index_select(order))[0], model(x, state)[0][:, order]
    )
    where = torch.tensor([True, False, False])
    again, _ = model(x, state.reset(where))
    torch.testing.assert_close(again[:, 0], model(x)[0][:, 0])
    torch.testing.assert_close(again[:, 1:], model(x, state)[0][:, 1:])
    assert {t.dtype for _, t in named_tensors(state.to(dtype=torch.float32))} == {torch.float32}
    state.save(tmp_path / "state.safetensors")
    loaded = load_state(tmp_path / "state.safetensors", model.initial_state(1))
    assert type(loaded) is type(state)
    assert torch.equal(model(x, loaded)[0], model(x, state)[0])


@pytest.mark.parametrize(("input_size", "hidden_size"), [(3, 8), (8, 8), (1, 5), (9, 2)])
def test_input_and_hidden_size_may_differ(input_size, hidden_size):
    model = XLSTM(input_size, hidden_size, num_layers=2)
    output, state = model(torch.randn(4, 2, input_size))
    assert output.shape == (4, 2, hidden_size)
    assert state.forward[1].cell.h.shape == (2, 1, hidden_size)
    output.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_wrong_calls_are_refused():
    model = _model(bidirectional=True)
    with pytest.raises(ValueError, match=r"input has shape \(2, 5, 4\).*of size 3"):
        model(torch.randn(5, 2, 4))
    with pytest.raises(ValueError, match="step was called on a bidirectional model"):
        model.step(_x(2), model.initial_state(2))
    with pytest.raises(ValueError, match="lengths came with a packed sequence"):
        model(pack_sequence([_x(2)]), lengths=torch.tensor([2]))
    with pytest.raises(ValueError, match="hidden_size is 0"):
        XLSTM(3, 0)
