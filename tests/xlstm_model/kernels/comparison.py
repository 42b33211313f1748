"""Kernels' results and gradients next to those of a reference in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

Run = Callable[..., Sequence[Tensor]]


def draw(
    shape: Sequence[int],
    rng: torch.Generator,
    dtype: torch.dtype,
    device: torch.device,
    scale: float = 1.0,
) -> Tensor:
    """A leaf of normal numbers."""
    if dtype == torch.bfloat16 and device.type == "cpu":
        pytest.skip("Triton's interpreter does not multiply bfloat16")
    drawn = (torch.randn(shape, generator=rng) * scale).to(dtype).to(device)
    return drawn.requires_grad_()


def assert_equal(
    run: Run, reference: Run, leaves: list[Tensor], grads_of: Sequence[int], tolerance: float
) -> None:
    """Results and gradients of a run with kernels against the reference's in float64."""
    exact = [x.detach().double().requires_grad_() for x in leaves]
    actual, expected = run(*leaves), reference(*exact)
    rng = torch.Generator().manual_seed(1)
    weights = [torch.randn(x.shape, generator=rng).to(x) for x in expected]
    chosen = [i for i in range(len(expected)) if i in grads_of]
    pairs = [
        torch.autograd.grad(
            [results[i] for i in chosen],
            inputs,
            [weights[i].to(results[i].dtype) for i in chosen],
            materialize_grads=True,
        )
        for results, inputs in ((actual, leaves), (expected, exact))
    ]
    # A gradient that is exactly 0 has no size of its own: the largest of the others stands for it.
    largest = max(gradient.norm().item() for gradient in pairs[1])
    floors = [1e-3] * len(expected)
    floors += [1e-3 if gradient.any() else 1e-2 * largest or 1e-3 for gradient in pairs[1]]
    results, exact_results = (*actual, *pairs[0]), (*expected, *pairs[1])
    for number, (a, b) in enumerate(zip(results, exact_results, strict=True)):
        assert torch.equal(a.isinf(), b.isinf()), f"tensor {number}"
        a, b = (torch.where(x.isinf(), 0.0, x.double()) for x in (a, b))
        error = ((a - b).norm() / b.norm().clamp(min=floors[number])).item()
        assert error <= tolerance, f"tensor {number}: {error:.1e}"
