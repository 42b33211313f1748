"""A GPU gives what the CPU gives: outputs, states, gradients, generated tokens."""

from __future__ import annotations

import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

from xlstm_model import (
    XLSTM,
    Recorder,
    SequenceRecommender,
    XLSTMLanguageModel,
    XLSTMStack,
    lengths_to_mask,
)
from xlstm_model.state import move_state, named_tensors

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

VARIANTS = {
    "mLSTM": {"pattern": "m"},
    "sLSTM": {"pattern": "s"},
    "mixed": {"pattern": "msm", "slstm_conv_gates": "ifzo"},
    "large": {"pattern": "mm", "mlstm_block": "large"},
    "learned initial state": {"pattern": "ms", "learned_initial_state": True},
    "sigmoid gates": {"pattern": "ms", "gate": "sigmoid"},
}


def _results(stack, x, mask):
    """Outputs, states and gradients of a prefill and a step, on the CPU."""
    y, state = stack(x, mask=mask)
    z, after = stack.step(x[:, 0], state)
    stack.zero_grad()
    (y.square().sum() + z.square().sum()).backward()
    tensors = {"y": y.detach(), "z": z.detach()}
    tensors |= {f"state {n}": t.detach() for n, t in named_tensors(after)}
    tensors |= {f"gradient of {n}": p.grad for n, p in stack.named_parameters()}
    return {name: tensor.cpu().clone() for name, tensor in tensors.items()}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
def test_stack_is_the_same_on_both(make_stack, variant, dtype, tolerance):
    stack = make_stack(**VARIANTS[variant]).to(dtype)
    x = torch.randn(4, 70, 8, dtype=dtype)
    mask = lengths_to_mask(torch.tensor([70, 33, 1, 50]), 70)
    expected = _results(stack, x, mask)
    found = _results(stack.cuda(), x.cuda(), mask.cuda())
    for name, tensor in expected.items():
        scale = 1 + tensor[torch.isfinite(tensor)].abs().amax().item() if tensor.numel() else 1
        torch.testing.assert_close(
            found[name], tensor, atol=tolerance * scale, rtol=0, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("pooling", ["every", "attention"])
def test_recommender_is_the_same_on_both(pooling):
    torch.manual_seed(0)
    model = SequenceRecommender(
        20,
        XLSTMStack(8, "ms", num_heads=2),
        8,
        time_gaps=True,
        positions="learned",
        pooling=pooling,
    ).double()
    items = torch.randint(1, 21, (4, 12))
    times = torch.randint(0, 10**12, (4, 12)).cumsum(1)
    inputs = (items, torch.tensor([12, 5, 0, 1]), times)
    expected = model.last_scores(*inputs)
    found = model.cuda().last_scores(*(t.cuda() for t in inputs))
    torch.testing.assert_close(found.cpu(), expected, atol=1e-9, rtol=0)


def test_state_travels_between_devices(make_stack):
    stack = make_stack("ms")
    x = torch.randn(2, 9, 8, dtype=torch.float64)
    whole, _ = stack(x)
    _, state = stack(x[:, :5])
    rest, _ = stack.cuda()(x[:, 5:].cuda(), state=move_state(state, device="cuda"))
    torch.testing.assert_close(rest.cpu(), whole[:, 5:], atol=1e-9, rtol=0)


def test_generation_is_the_same_on_both():
    torch.manual_seed(0)
    model = XLSTMLanguageModel(11, XLSTMStack(8, "ms", num_heads=2)).double()
    prompts = torch.randint(0, 11, (3, 5))
    mask = lengths_to_mask(torch.tensor([5, 2, 3]), 5)
    expected = model.generate(prompts, mask=mask, max_new_tokens=20)
    found = model.cuda().generate(prompts.cuda(), mask=mask.cuda(), max_new_tokens=20)
    assert torch.equal(found.tokens.cpu(), expected.tokens)


def test_packed_input_and_recorder_run_there():
    model = XLSTM(3, 8, 2, bidirectional=True).cuda()
    packed = pack_sequence([torch.randn(4, 3), torch.randn(2, 3)]).to("cuda")
    with Recorder(model) as recorder:
        output, _ = model(packed)
    assert output.data.shape == (6, 16)
    assert len(recorder.summary()) > 10


def test_bfloat16_autocast_is_finite():
    stack = XLSTMStack(16, "ms", num_heads=2).cuda()
    with torch.autocast("cuda", torch.bfloat16):
        y, _ = stack(torch.randn(2, 300, 16, device="cuda"))
    y.float().sum().backward()
    assert torch.isfinite(y).all()
    assert all(torch.isfinite(p.grad).all() for p in stack.parameters())
