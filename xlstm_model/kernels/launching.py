"""Launches kernels with little work on the host.

Before every launch Triton looks at each argument to find the program compiled for its kind, and
asks the driver about each pointer, which takes longer than many of the kernels run. Here the kinds
are one dictionary key, and the program found the first time is launched directly, with addresses
for tensors. Where a caller knows what decides the kind, ``prepare`` does without the key too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from operator import or_
from typing import Any

import torch
import triton
from torch import Tensor

from xlstm_model.kernels.library import MOST_KEPT

KNOWN_VERSIONS = ("3.6.", "3.8.")
"""Versions of Triton whose compiled programs are known to take all arguments in order."""
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
            program[_whole(grid)](*passed, *constants)
            return
        device = next((x.device for x in arguments if isinstance(x, Tensor)), None)
        if device is not None and device.type == "cuda" and device.index != key[0]:
            with torch.cuda.device(device):  # programs run where the current device is
                self._launch(grid, *arguments, **options)
            return
        program, constants = self.find(grid, arguments, options)
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        if program is not None:
            self._kept[key] = program, constants

    def find(
        self, grid: Sequence[int], arguments: Sequence[Any], options: dict[str, Any]
    ) -> tuple[Any, tuple[Any, ...]]:
        """Launch it as Triton does; the program that ran, and the constants it takes behind."""
        program = self.kernel[tuple(grid)](*arguments, **options)
        names = self.kernel.arg_names[len(arguments) :]
        return program, tuple(options[name] for name in names)


class Prepared:
    """A kernel with all but its tensors, ``prepared(*tensors)``.

    At every call the tensors have to be of the same dtypes, on the same GPU, and absent (None) in
    the same places.

    Args:
        kernel: What to launch.
        grid: Programs in up to three directions.
        sizes: The parameters between the tensors and the constants.
        options: The constants, and Triton's own options.
        device: Number of the GPU.
    """

    def __init__(
        self,
        kernel: Direct,
        grid: Sequence[int],
        sizes: tuple[Any, ...],
        options: dict[str, Any],
        device: int,
    ) -> None:
        self._kernel, self._grid, self._sizes, self._options = kernel, grid, sizes, options
        self._device = device
        self._run: Callable[..., None] | None = None
        self._behind: tuple[Any, ...] = ()

    def __call__(self, *tensors: Tensor | None) -> None:
        addresses = [None if x is None else x.data_ptr() for x in tensors]
        # Absent and empty tensors have no address; one bit of another shows what is not aligned.
        if reduce(or_, filter(None, addresses), 0) % ALIGNMENT or self._is_elsewhere():
            self._kernel[self._grid](*tensors, *self._sizes, **self._options)
            return
        if self._run is not None:
            self._run(*addresses, *self._behind)
            return
        program, constants = self._kernel.find(self._grid, (*tensors, *self._sizes), self._options)
        if program is not None:
            self._behind = (*self._sizes, *constants)
            self._run = program[_whole(self._grid)]

    def _is_elsewhere(self) -> bool:
        return self._device >= 0 and torch.cuda.current_device() != self._device


def direct(kernel: Any) -> Any:
    """The kernel behind ``Direct``, or as it is where that does not know Triton's version."""
    # The interpreter's functions have no programs.
    if not isinstance(kernel, triton.JITFunction):
        return kernel
    return Direct(kernel) if triton.__version__.startswith(KNOWN_VERSIONS) else kernel


def prepare(
    kernel: Any, grid: Sequence[int], sizes: tuple[Any, ...], device: int, **options: Any
) -> Callable[..., None]:
    """The kernel as a function of its tensors alone; see ``Prepared``."""
    if isinstance(kernel, Direct):
        return Prepared(kernel, grid, sizes, options, device)
    return lambda *tensors: kernel[grid](*tensors, *sizes, **options)


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
    device = torch.cuda.current_device() if torch.cuda.is_initialized() else -1
    return (device, *options.items(), *kinds), passed


def _whole(grid: Sequence[int]) -> tuple[int, ...]:
    return (*grid, 1, 1)[:3]
