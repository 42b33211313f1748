"""Launches kernels with little work on the host.

Before every launch Triton looks at each argument to find the program compiled for its kind, and
asks the driver about each pointer, which takes longer than many of the kernels run. Here the kinds
are one dictionary key, and the program found the first time is launched directly, with addresses
for tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import triton
from torch import Tensor

KNOWN_VERSIONS = ("3.6.", "3.8.")
"""Versions of Triton whose compiled programs are known to take all arguments in order."""
MOST_KEPT = 4096
"""Kinds of calls remembered; far more than a training has shapes."""
ALIGNMENT = 16
"""Bytes; Triton compiles other programs for memory that begins elsewhere."""


class Direct:
    """A kernel that remembers its programs; ``kernel[grid](...)`` as with Triton's own.

    Args:
        kernel: A function under ``triton.jit``.
    """

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self._kept: dict[tuple[Any, ...], tuple[Any, tuple[Any, ...]]] = {}

    def __getitem__(self, grid: Sequence[int]) -> Callable[..., None]:
        return partial(self._launch, grid)

    def _launch(self, grid: Sequence[int], *arguments: Any, **options: Any) -> None:
        """Run it.

        Args:
            grid: Programs in up to three directions.
            arguments: Its first parameters: tensors, numbers or None.
            options: The other parameters, constants of the program, and Triton's own options.
        """
        key, passed = kind_of(arguments, options)
        found = self._kept.get(key)
        if found is not None:
            program, constants = found
            program[(*grid, 1, 1)[:3]](*passed, *constants)
            return
        device = next((x.device for x in arguments if isinstance(x, Tensor)), None)
        if device is not None and device.type == "cuda" and device.index != key[0]:
            with torch.cuda.device(device):  # programs run where the current device is
                self._launch(grid, *arguments, **options)
            return
        program = self.kernel[tuple(grid)](*arguments, **options)
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        if program is not None:
            names = self.kernel.arg_names[len(arguments) :]
            self._kept[key] = program, tuple(options[name] for name in names)


def direct(kernel: Any) -> Any:
    """The kernel behind ``Direct``, or as it is where that does not know Triton's version."""
    # The interpreter's functions have no programs.
    if not isinstance(kernel, triton.JITFunction):
        return kernel
    return Direct(kernel) if triton.__version__.startswith(KNOWN_VERSIONS) else kernel


def kind_of(arguments: Sequence[Any], options: dict[str, Any]) -> tuple[tuple[Any, ...], list[Any]]:
    """Everything that decides which program runs, and more; and what to launch it with."""
    kinds, passed = [], []
    for x in arguments:
        if isinstance(x, Tensor):
            address = x.data_ptr()
            # Addresses are not checked at a launch: a tensor elsewhere is of a kind of its own.
            kinds.append((x.dtype, x.get_device(), address % ALIGNMENT))
            passed.append(address)
        else:
            kinds.append((type(x), x))
            passed.append(x)
    # ``is_available`` counts the GPUs anew at every call, which takes longer than all else here.
    device = torch.cuda.current_device() if torch.cuda.is_initialized() else -1
    return (device, *options.items(), *kinds), passed
