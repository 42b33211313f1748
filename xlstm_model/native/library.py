"""The compiled kernels for processors: found, loaded and called; or known to be absent.

The library is a plain shared one without any dependency on PyTorch's binary interface, called
through ``ctypes``. It is built ahead, with the wheel or by ``python -m xlstm_model.native.build``;
without it everything runs in PyTorch's own operations, slower and to the same results.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

INTERFACE_VERSION = 1
"""Version of the entry points this module calls."""

LIBRARY_PATTERN = "_kernels*.so"
"""Names the library may have beside this file."""

_disabled = 0


@cache
def load_library() -> ctypes.CDLL | None:
    """The compiled library, None where there is none of this version."""
    for path in sorted(Path(__file__).parent.glob(LIBRARY_PATTERN)):
        library = ctypes.CDLL(str(path))
        if library.xlstm_interface_version() == INTERFACE_VERSION:
            return library
    return None


def fits(*tensors: Tensor | None) -> bool:
    """Whether the compiled kernels can take these tensors: float32 on the CPU, library present.

    >>> fits(torch.zeros(1, dtype=torch.float64))
    False
    """
    given = [x for x in tensors if x is not None]
    return (
        not _disabled
        and all(x.dtype == torch.float32 and x.device.type == "cpu" for x in given)
        and load_library() is not None
    )


@contextmanager
def disabled() -> Iterator[None]:
    """Run in PyTorch's operations even where the compiled kernels could; to compare them.

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


def call(
    name: str,
    sizes: Sequence[int],
    tensors: Sequence[Tensor | None],
    count: int,
    *numbers: float,
) -> None:
    """Run a kernel over independent rows, split over PyTorch's threads.

    Args:
        name: Entry point without its prefix.
        sizes: Its sizes.
        tensors: Its pointers, each contiguous; None is a null pointer. They must stay referenced
            by the caller.
        count: Number of independent rows.
        *numbers: Further numbers it takes between sizes and pointers.
    """
    function = getattr(load_library(), f"xlstm_{name}")
    packed_sizes = (ctypes.c_int64 * len(sizes))(*sizes)
    pointers = (ctypes.c_void_p * len(tensors))(
        *(None if x is None else x.data_ptr() for x in tensors)
    )
    extra = [ctypes.c_double(number) for number in numbers]

    def run(first: int, last: int) -> None:
        function(packed_sizes, *extra, pointers, ctypes.c_int64(first), ctypes.c_int64(last))

    threads = min(torch.get_num_threads(), count)
    if threads <= 1:
        run(0, count)
        return
    borders = [count * i // threads for i in range(threads + 1)]
    # ctypes releases the interpreter's lock, so plain threads run side by side.
    parts = [_pool(threads).submit(run, *pair) for pair in pairwise(borders)]
    for part in parts:
        part.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="xlstm")
