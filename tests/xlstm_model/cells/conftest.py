"""Random inputs, comparisons and gradients that the tests of both cells share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from torch import Tensor

from xlstm_model.cells import MLSTMState, SLSTMState, empty_mlstm_state, empty_slstm_state
from xlstm_model.native import library


@pytest.fixture(params=["compiled kernels", "torch operations"])
def kernels(request) -> Iterator[str]:
    """Runs a float32 test with the compiled kernels and again without them."""
    if request.param == "torch operations":
        with library.disabled():
            yield request.param
    elif library.load_library() is None:
        pytest.skip("the compiled kernels are absent; run `python -m xlstm_model.native.build`")
    else:
        yield request.param


@pytest.fixture
def mlstm_inputs() -> Callable[..., list[Tensor]]:
    """Builds q, k, v, igate_preact, fgate_preact as leaves."""

    def build(
        B=2, NH=2, S=9, DK=3, DV=4, *, seed=0, scale=1.0, dtype=torch.float64
    ) -> list[Tensor]:
        rng = torch.Generator().manual_seed(seed)
        shapes = [(B, NH, S, DK), (B, NH, S, DK), (B, NH, S, DV), (B, NH, S), (B, NH, S)]
        factors = [1, 1, 1, scale, scale]
        return [
            (torch.randn(shape, generator=rng, dtype=torch.float64) * factor)
            .to(dtype)
            .requires_grad_()
            for shape, factor in zip(shapes, factors, strict=True)
        ]

    return build


@pytest.fixture
def slstm_inputs() -> Callable[..., list[Tensor]]:
    """Builds gates_preact, recurrent_weight, bias as leaves."""

    def build(B=2, S=9, NH=2, DH=3, *, seed=0, scale=1.0, dtype=torch.float64) -> list[Tensor]:
        rng = torch.Generator().manual_seed(seed)
        shapes = [(B, S, 4, NH, DH), (NH, DH, 4, DH), (NH, 4, DH)]
        factors = [scale, 0.5, 0.5]
        return [
            (torch.randn(shape, generator=rng, dtype=torch.float64) * factor)
            .to(dtype)
            .requires_grad_()
            for shape, factor in zip(shapes, factors, strict=True)
        ]

    return build


@pytest.fixture
def some_state() -> Callable[..., MLSTMState | SLSTMState]:
    """Fills an empty state with numbers a cell could have left, except for one empty sample."""

    def fill(kind: str, *sizes: int, seed: int = 0, empty_sample: int | None = None):
        rng = torch.Generator().manual_seed(seed)
        make = empty_mlstm_state if kind == "mlstm" else empty_slstm_state
        empty = make(*sizes, dtype=torch.float64)
        parts = {}
        for name, part in empty._asdict().items():
            value = torch.randn(part.shape, generator=rng, dtype=part.dtype)
            if kind == "slstm" and name == "n":
                value = 1 + value.abs()
            if empty_sample is not None:
                value[empty_sample] = part[empty_sample]
            parts[name] = value.requires_grad_()
        return type(empty)(**parts)

    return fill


@pytest.fixture
def gradients_of() -> Callable[..., list[Tensor]]:
    """Gradients of a fixed random combination of results."""

    def grads(results: Sequence[Tensor], inputs: Sequence[Tensor], seed: int = 1) -> list[Tensor]:
        rng = torch.Generator().manual_seed(seed)
        total = torch.zeros((), dtype=torch.float64)
        for result in results:
            weight = torch.randn(result.shape, generator=rng, dtype=torch.float64)
            total = total + (result.double() * weight.to(result.device)).sum()
        return list(torch.autograd.grad(total, inputs))

    return grads


@pytest.fixture
def assert_close() -> Callable[..., None]:
    """Compares tensors by their largest difference over their largest entry."""

    def check(actual: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float) -> None:
        for number, (a, b) in enumerate(zip(actual, expected, strict=True)):
            assert a.shape == b.shape
            a, b = a.detach().double(), b.detach().double()
            assert torch.equal(a.isinf(), b.isinf())
            a, b = a[~a.isinf()], b[~b.isinf()]
            if a.numel():
                error = ((a - b).abs().max() / b.abs().max().clamp(min=1e-3)).item()
                assert error <= tolerance, f"tensor {number}: {error:.2e} > {tolerance:.0e}"

    return check
