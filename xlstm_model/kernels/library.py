"""Kernels for GPUs, written in Triton: whether they can run here, and on which tensors.

Triton comes with PyTorch's builds for GPUs. Without it, on GPUs older than Ampere or with little
shared memory, and in dtypes the kernels do not know, everything runs in PyTorch's own operations,
to the same results.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

from xlstm_model.tracing import must_be_visible

DTYPES = (torch.bfloat16, torch.float32)
"""What the kernels read. Float16 does not hold the range of an exponential gate's memory."""
OLDEST_CAPABILITY = (8, 0)
"""First generation with matrix units for bfloat16."""

SHARED_MEMORY = 160 * 1024
"""Bytes on the chip that a program may need; what data-centre GPUs have since Ampere."""

MOST_KEPT = 4096
"""Kinds of calls remembered; far more than a training has shapes."""

ALTERNATIVE = "xlstm_model.kernels.library.disabled()"
"""What to use where a kernel's own gradient cannot be differentiated."""

_disabled = 0
_said: set[str] = set()


def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1" and _has_triton()
"""Whether Triton interprets its kernels on the CPU (``TRITON_INTERPRET=1``), for tests."""


@cache
def _device_fits(device: torch.device) -> bool:
    """Whether kernels run on this GPU; says once why it goes without."""
    if device.type != "cuda":
        return INTERPRETED
    if torch.version.hip is not None:
        reason = "they were written for NVIDIA's"
    elif not _has_triton():
        reason = "the package triton is not installed; install it with pip install triton"
    elif torch.cuda.get_device_capability(device) < OLDEST_CAPABILITY:
        reason = "it is older than compute capability 8.0"
    elif _shared_memory(device) < SHARED_MEMORY:
        reason = f"its multiprocessors lend a program less than {SHARED_MEMORY // 1024} KiB"
    else:
        return True
    warnings.warn(
        f"xlstm_model runs without its GPU kernels on {torch.cuda.get_device_name(device)}: "
        f"{reason}. Results are the same, several times slower.",
        RuntimeWarning,
        stacklevel=2,
    )
    return False


def _shared_memory(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).shared_memory_per_block_optin


@cache
def multiprocessors(device: torch.device) -> int:
    """How many a GPU has; one for what is interpreted on the CPU.

    >>> multiprocessors(torch.device("cpu"))
    1
    """
    if device.type != "cuda":
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count


def fits(*tensors: Tensor | None) -> bool:
    """Whether the kernels can take these tensors: dtype, device, Triton present.

    >>> fits(torch.zeros(1, dtype=torch.float64))
    False
    """
    if _disabled:
        return False
    given = [x for x in tensors if x is not None]
    if not all(x.dtype in DTYPES for x in given):
        halves = [x for x in given if x.dtype == torch.float16 and x.device.type == "cuda"]
        if halves and not torch.compiler.is_compiling() and _device_fits(halves[0].device):
            say_once(
                "xlstm_model runs without its GPU kernels: they take bfloat16 and float32, and "
                "float16 does not hold the range of an exponential gate's memory. Results are "
                "right where float16 reaches, several times slower. Use bfloat16."
            )
        return False
    # Compilers trace this: what never holds on the CPU is settled before anything is looked up.
    if all(x.device.type != "cuda" for x in given):
        return INTERPRETED
    device = given[0].device
    return all(x.device == device for x in given) and _device_fits(device)


def check_device(like: Tensor, *others: Tensor | None) -> None:
    """Check that masks and states are where the inputs are: kernels are launched with addresses.

    Raises:
        ValueError: If one is on another device.

    >>> check_device(torch.zeros(1), None, torch.zeros(1))
    """
    for x in others:
        if x is not None and x.get_device() != like.get_device():
            raise ValueError(
                f"a mask or state is on {x.device}; expected {like.device}, where the inputs are. "
                f"Move it with .to({str(like.device)!r})."
            )


def head_fits(
    cell: str, head_dim: int, widest: Mapping[torch.dtype, int], dtype: torch.dtype
) -> bool:
    """Whether a cell's kernels take heads so wide; says once where they do not.

    Args:
        cell: For the message.
        head_dim: Units per head.
        widest: That the kernels take in each dtype.
        dtype: Of the heads.
    """
    if head_dim <= widest[dtype]:
        return True
    others = [x for x in DTYPES if head_dim <= widest[x]]
    advice = f", or use {str(others[0]).removeprefix('torch.')}" if others else ""
    say_once(
        f"xlstm_model runs the {cell} without its GPU kernels: heads of {head_dim} units in "
        f"{str(dtype).removeprefix('torch.')} are wider than {widest[dtype]}. Results are the "
        f"same, several times slower. Set num_heads to more heads{advice}."
    )
    return False


def say_once(message: str) -> None:
    """Warn of something, the first time it is met."""
    # A compiler that traces this would stop at a warning.
    if not torch.compiler.is_compiling() and message not in _said:
        _said.add(message)
        warnings.warn(message, RuntimeWarning, stacklevel=3)


def fits_layer(*tensors: Tensor | None) -> bool:
    """Whether the kernels of layers without a state can take these tensors.

    Compilers fuse such layers themselves; exporters and function transforms have to see them.

    >>> fits_layer(torch.zeros(1, dtype=torch.float64))
    False
    """
    is_watched = torch.compiler.is_compiling() or must_be_visible()
    return not is_watched and fits(*tensors)


@contextmanager
def disabled() -> Iterator[None]:
    """Run in PyTorch's operations even where the kernels could; to compare them.

    >>> with disabled():
    ...     fits(torch.zeros(1))
    False
    """
    global _disabled
    _disabled += 1
    try:
        yield
    finally:
        _disabled -= 1


def precision(dtype: torch.dtype) -> str:
    """How float32 operands are multiplied: as three products of 11-bit parts, to float32 accuracy.

    >>> precision(torch.bfloat16), precision(torch.float32)
    ('tf32', 'tf32x3')
    """
    return "tf32x3" if dtype == torch.float32 else "tf32"


@cache
def power_of_two(size: int) -> int:
    """The least tile width for so many columns: a power of two of at least 16.

    >>> power_of_two(3), power_of_two(48)
    (16, 64)
    """
    return max(16, 1 << (size - 1).bit_length())
