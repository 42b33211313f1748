"""The recorder: what it sees is right, and it changes nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from xlstm_model import Recorder, SequenceRecommender, XLSTMStack, lengths_to_mask

VARIANTS = [
    ("ms", {}),
    ("mm", {"mlstm_block": "large"}),
    ("ms", {"gate": "sigmoid"}),
    ("ms", {"gate": "sigmoid", "mlstm_normalizer": False, "slstm_cell": "lstm"}),
    ("s", {"slstm_cell": "rnn", "slstm_conv_gates": "ifzo"}),
    ("ms", {"learned_initial_state": True}),
]


@pytest.mark.parametrize(("pattern", "settings"), VARIANTS)
def test_results_gradients_and_random_numbers_are_the_same(make_stack, pattern, settings):
    stack = make_stack(pattern, dropout=0.2, **settings)
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    mask = lengths_to_mask(torch.tensor([5, 2]), 5)

    def run():
        torch.manual_seed(3)
        stack.zero_grad()
        y, _ = stack(x, mask=mask)
        y.square().sum().backward()
        return [y, torch.rand(1), *(p.grad.clone() for p in stack.parameters())]

    plain = run()
    with Recorder(stack) as recorder:
        watched = run()
    assert recorder.blocks
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))


def test_nothing_is_left_in_the_model(make_stack):
    stack = make_stack()
    with Recorder(stack):
        assert any(m._forward_hooks for m in stack.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in stack.modules())
    with pytest.raises(RuntimeError), Recorder(stack):
        raise RuntimeError
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in stack.modules())


def test_norms_are_those_of_the_states(make_stack):
    stack = make_stack("ms")
    x = torch.randn(2, 6, 8, dtype=torch.float64)
    with Recorder(stack) as recorder:
        stack(x)
    for position in (0, 3, 5):
        _, state = stack(x[:, : position + 1])
        for index in range(2):
            cell, norms = state[index].cell, recorder.blocks[f"blocks.{index}"].norms
            c = cell.c.flatten(2).norm(dim=-1)
            torch.testing.assert_close(norms["c"][:, position], c)
            torch.testing.assert_close(norms["n"][:, position], cell.n.norm(dim=-1))
            m = cell.m if index == 0 else cell.m.mean(-1)
            torch.testing.assert_close(norms["m"][:, position], m)
        torch.testing.assert_close(norms["h"][:, position], state[1].cell.h.norm(dim=-1))


def test_going_on_from_a_state_is_recorded_from_there(make_stack):
    stack = make_stack("ms")
    x = torch.randn(2, 6, 8, dtype=torch.float64)
    with Recorder(stack) as whole:
        stack(x)
    _, state = stack(x[:, :4])
    with Recorder(stack) as rest:
        stack(x[:, 4:], state=state)
    for name, record in rest.blocks.items():
        for label in ("gates", "norms", "preact"):
            for key, tensor in getattr(record, label).items():
                expected = getattr(whole.blocks[name], label)[key][:, 4:]
                torch.testing.assert_close(tensor, expected, msg=f"{name} {label} {key}")


def test_gates_explain_the_states(make_stack):
    stack = make_stack("s")
    x = torch.randn(2, 6, 8, dtype=torch.float64)
    with Recorder(stack) as recorder:
        _, state = stack(x)
    gates = recorder.blocks["blocks.0"].gates
    c = n = torch.zeros_like(gates["i"][:, 0])
    for position in range(6):
        i, f = gates["i"][:, position], gates["f"][:, position]
        c, n = f * c + i * gates["z"][:, position], f * n + i
    torch.testing.assert_close(c, state[0].cell.c)
    torch.testing.assert_close(gates["o"][:, -1] * c / n, state[0].cell.h)
    for key in "ifo":
        assert gates[key].min() >= 0
        assert gates[key].max() <= 1


def test_inputs_outputs_and_ranges(make_stack):
    stack = make_stack("ms")
    x = torch.randn(2, 6, 8, dtype=torch.float64)
    mask = lengths_to_mask(torch.tensor([6, 2]), 6)
    with Recorder(stack) as recorder:
        stack(x, mask=mask)
    first, second = (recorder.blocks[f"blocks.{i}"] for i in range(2))
    assert (first.kind, second.kind) == ("mlstm", "slstm")
    assert torch.equal(first.input, x)
    assert torch.equal(first.output, second.input)
    low, high = first.preact_range()["f"]
    real = first.preact["f"][mask]
    assert (low, high) == (real.min().item(), real.max().item())
    assert set(second.preact_range()) == set("ifzo")


def test_saturated_gates_show(make_stack):
    stack = make_stack("m")
    with torch.no_grad():
        stack.blocks[0].fgate.bias.fill_(-30.0)
    with Recorder(stack) as recorder:
        stack(torch.randn(2, 6, 8, dtype=torch.float64))
    assert recorder.blocks["blocks.0"].gates["f"].max() < 1e-6
    summary = recorder.summary()
    assert summary["blocks.0/gate/f"] < 1e-6
    assert summary["blocks.0/preact_max/f"] == pytest.approx(30, abs=2)


@pytest.mark.parametrize(("pattern", "settings"), VARIANTS)
def test_summary_is_finite_under_padding(make_stack, pattern, settings):
    stack = make_stack(pattern, **settings)
    mask = lengths_to_mask(torch.tensor([6, 1]), 6).flip(1)
    with Recorder(stack) as recorder:
        stack(torch.randn(2, 6, 8, dtype=torch.float64), mask=mask)
    summary = recorder.summary()
    assert len(summary) >= 6
    assert torch.isfinite(torch.tensor(list(summary.values()))).all()


def test_watches_blocks_inside_a_recommender_and_can_leave_out_states():
    model = SequenceRecommender(5, XLSTMStack(8, "ms", num_heads=2), 8)
    with Recorder(model, states=False) as recorder:
        model(torch.tensor([[1, 2, 0]]))
    record = recorder.blocks["sequence_model.blocks.0"]
    assert record.norms == record.gates == {}
    assert record.preact["i"].shape == (1, 3, 2)
    assert record.mask.tolist() == [[True, True, False]]


def test_a_model_without_blocks_is_refused():
    with pytest.raises(ValueError, match="Linear holds no xLSTM block"):
        Recorder(nn.Linear(1, 1))
