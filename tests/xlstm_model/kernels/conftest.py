"""Where Triton's kernels can be tested: on a GPU, or interpreted on the CPU."""

from __future__ import annotations

import pytest
import torch

from xlstm_model.kernels import library


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The device whose kernels are tested."""
    if library.INTERPRETED:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device, or triton with TRITON_INTERPRET=1")
    if not library.fits(torch.zeros(1, device="cuda")):
        pytest.skip("this GPU cannot run the kernels")
    return torch.device("cuda")


@pytest.fixture
def rng(device: torch.device) -> torch.Generator:
    """Fresh random inputs, the same at every run."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill what kernels will write with NaN, so that nothing goes unwritten unnoticed."""

    def poison(function):
        def create(*arguments, **options):
            created = function(*arguments, **options)
            if created.is_floating_point():
                created.fill_(torch.nan)
            return created

        return create

    monkeypatch.setattr(torch, "empty", poison(torch.empty))
    monkeypatch.setattr(torch, "empty_like", poison(torch.empty_like))
    for name in ("new_empty", "new_empty_strided"):
        monkeypatch.setattr(torch.Tensor, name, poison(getattr(torch.Tensor, name)))
