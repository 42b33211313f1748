"""Says which settings to lower when a device runs out of memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

CPU_MESSAGES = ("can't allocate memory", "not enough memory")
"""What torch says in a plain RuntimeError when the machine, not a GPU, has too little."""


class OutOfMemoryError(MemoryError):
    """The device has too little memory for the settings."""

    exit_code = 2
    """Another try would end the same."""


@contextmanager
def named_out_of_memory(settings: Mapping[str, int]) -> Iterator[None]:
    """Turn torch's message into one that names the settings to lower.

    Args:
        settings: What the memory depends on, by name, the first one to lower first.

    Raises:
        OutOfMemoryError: the block ran out of memory.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        text = str(error)
        is_memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not is_memory and not any(message in text for message in CPU_MESSAGES):
            raise
        now = ", ".join(f"{name} (now {value})" for name, value in settings.items())
        reason = text.splitlines()[0][:200] if text else type(error).__name__
        raise OutOfMemoryError(
            f"out of memory: {reason.removesuffix('.')}. Lower in this order: {now}; or train on "
            "the processor with train.shared.device=cpu."
        ) from error
