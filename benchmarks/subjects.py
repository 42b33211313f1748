"""What `benchmarks.cells` times: peers, and our stacks, cells and steps, on random inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xlstm_model import XLSTMStack
from xlstm_model.cells import mlstm_chunkwise, slstm_sequence

NUM_HEADS = 2
NUM_BLOCKS = 2

Shape = tuple[int, int, int]


class AttentionBlock(nn.Module):
    """Pre-norm causal self-attention and a feed-forward layer four times as wide."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(dim), nn.LayerNorm(dim)])
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, S, D) to (B, S, D)."""
        heads = self.qkv(self.norms[0](x)).unflatten(-1, (3, NUM_HEADS, -1))
        q, k, v = (t.transpose(1, 2) for t in heads.unbind(2))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norms[1](x))))


def _module_pass(module: nn.Module, shape: Shape) -> Callable[[], None]:
    x = torch.randn(shape, requires_grad=True)
    upstream = torch.randn(shape)

    def run() -> None:
        y = module(x)
        y = y[0] if isinstance(y, tuple) else y
        y.backward(upstream)
        x.grad = None
        module.zero_grad(set_to_none=True)

    return run


def _mlstm_cell(shape: Shape) -> Callable[[], None]:
    """The cell alone as the block of width D calls it: heads as wide as D, as 2 D are inside."""
    B, S, D = shape
    q, k, v = (torch.randn(B, S, NUM_HEADS, D, requires_grad=True) for _ in range(3))
    i, f = (torch.randn(B, S, NUM_HEADS, requires_grad=True) for _ in range(2))
    upstream = torch.randn(B, S, NUM_HEADS, D)

    def run() -> None:
        h, _ = mlstm_chunkwise(*(x.transpose(1, 2) for x in (q, k, v, i, f)))
        torch.autograd.grad(h.transpose(1, 2), (q, k, v, i, f), upstream)

    return run


def _slstm_cell(shape: Shape) -> Callable[[], None]:
    B, S, D = shape
    head = D // NUM_HEADS
    leaves = [
        torch.randn(B, S, 4, NUM_HEADS, head, requires_grad=True),
        (torch.randn(NUM_HEADS, head, 4, head) * 0.1).requires_grad_(),
        torch.zeros(NUM_HEADS, 4, head, requires_grad=True),
    ]
    upstream = torch.randn(B, S, NUM_HEADS, head)

    def run() -> None:
        torch.autograd.grad(slstm_sequence(*leaves)[0], leaves, upstream)

    return run


def _authors_stack(kind: str, shape: Shape) -> nn.Module:
    from xlstm import (
        FeedForwardConfig,
        mLSTMBlockConfig,
        mLSTMLayerConfig,
        sLSTMBlockConfig,
        sLSTMLayerConfig,
        xLSTMBlockStack,
        xLSTMBlockStackConfig,
    )

    _, S, D = shape
    common = {"num_blocks": NUM_BLOCKS, "embedding_dim": D, "context_length": S}
    if kind == "m":
        layer = mLSTMLayerConfig(num_heads=NUM_HEADS)
        config = xLSTMBlockStackConfig(mlstm_block=mLSTMBlockConfig(mlstm=layer), **common)
    else:
        layer = sLSTMLayerConfig(backend="vanilla", num_heads=NUM_HEADS)
        block = sLSTMBlockConfig(slstm=layer, feedforward=FeedForwardConfig())
        every = list(range(NUM_BLOCKS))
        config = xLSTMBlockStackConfig(slstm_block=block, slstm_at=every, **common)
    return xLSTMBlockStack(config)


def training_passes(shape: Shape, with_authors: bool) -> dict[str, Callable[[], None]]:
    """Forward and backward of every subject at (B, S, D); `lstm` comes first, as the base."""
    _, _, D = shape
    torch.manual_seed(0)
    modules: dict[str, nn.Module] = {
        "lstm": nn.LSTM(D, D, NUM_BLOCKS, batch_first=True),
        "gru": nn.GRU(D, D, NUM_BLOCKS, batch_first=True),
        "attention": nn.Sequential(*(AttentionBlock(D) for _ in range(NUM_BLOCKS))),
        "mlstm_stack": XLSTMStack(D, "mm", num_heads=NUM_HEADS),
        "slstm_stack": XLSTMStack(D, "ss", num_heads=NUM_HEADS),
    }
    if with_authors:
        modules["authors_mlstm"] = _authors_stack("m", shape)
        modules["authors_slstm"] = _authors_stack("s", shape)
    passes = {name: _module_pass(module, shape) for name, module in modules.items()}
    passes["mlstm_cell"] = _mlstm_cell(shape)
    passes["slstm_cell"] = _slstm_cell(shape)
    return passes


def chunked_passes(shape: Shape, sizes: Sequence[int]) -> dict[str, Callable[[], None]]:
    """Forward and backward of mLSTM stacks with chunks of several sizes, after `lstm`."""
    _, _, D = shape
    torch.manual_seed(0)
    modules: dict[str, nn.Module] = {"lstm": nn.LSTM(D, D, NUM_BLOCKS, batch_first=True)}
    for size in sizes:
        modules[f"chunks of {size}"] = XLSTMStack(D, "mm", num_heads=NUM_HEADS, chunk_size=size)
    return {name: _module_pass(module, shape) for name, module in modules.items()}


def decode_steps(batch_size: int, dim: int, with_authors: bool) -> dict[str, Callable[[], None]]:
    """One position without gradients; `lstm` comes first, as the base."""
    torch.manual_seed(0)
    x = torch.randn(batch_size, dim)
    lstm = nn.LSTM(dim, dim, NUM_BLOCKS, batch_first=True)
    _, lstm_state = lstm(torch.randn(batch_size, 8, dim))
    steps: dict[str, Callable[[], None]] = {
        "lstm": lambda: lstm(x.unsqueeze(1), lstm_state),
    }
    for name, pattern in (("mlstm_stack", "mm"), ("slstm_stack", "ss")):
        stack = XLSTMStack(dim, pattern, num_heads=NUM_HEADS)
        _, state = stack(torch.randn(batch_size, 8, dim))
        steps[name] = lambda stack=stack, state=state: stack.step(x, state)
    if with_authors:
        for name, kind in (("authors_mlstm", "m"), ("authors_slstm", "s")):
            stack = _authors_stack(kind, (batch_size, 64, dim))
            _, state = stack.step(x.unsqueeze(1))
            steps[name] = lambda stack=stack, state=state: stack.step(x.unsqueeze(1), state)
    return steps
