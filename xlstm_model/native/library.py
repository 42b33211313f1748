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

INTERFACE_VERSION = 8
"""Version of the entry points this module calls."""

LIBRARY_PATTERN = "_kernels*.so"
"""Names the library may have beside this file."""

FREED_BYTES = (32 << 20) - 65536
"""Size of a block freed before the first call: as large as glibc takes an example by."""

_disabled = 0


@cache
def load_library() -> ctypes.CDLL | None:
    """The compiled library, None where there is none of this version."""
    for path in sorted(Path(__file__).parent.glob(LIBRARY_PATTERN)):
        library = ctypes.CDLL(str(path))
        if library.xlstm_interface_version() == INTERFACE_VERSION:
            _keep_freed_memory()
            return library
    return None


def _keep_freed_memory() -> None:
    """Have glibc keep what is freed for what is allocated next.

    It gives memory back to the system once twice the largest block ever freed lies unused, so that
    in a process that only ever takes steps every new state comes as fresh pages, which takes longer
    than the step. Any training frees larger blocks at once. The block is never written, so that it
    costs nothing; the whole process may then keep up to twice as much unused. Where the environment
    sets ``MALLOC_TRIM_THRESHOLD_``, that stays.
    """
    bytes(FREED_BYTES)


def fits(*tensors: Tensor | None) -> bool:
    """Whether the compiled kernels can take these tensors: float32 on the CPU, library present.

    >>> fits(torch.zeros(1, dtype=torch.float64))
    False
    """
    if _disabled or load_library() is None:
        return False
    # A plain loop: one recurrent step asks this several times within microseconds.
    for x in tensors:
        if x is not None and (x.dtype is not torch.float32 or not x.is_cpu):
            return False
    return True


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


def num_parts(count: int) -> int:
    """Into how many parts a call over so many rows is split: PyTorch's number of threads at most.

    >>> num_parts(1)
    1
    """
    return 1 if count < 2 else max(1, min(torch.get_num_threads(), count))


def call(
    name: str,
    sizes: Sequence[int],
    tensors: Sequence[Tensor | None],
    count: int,
    numbers: Sequence[float] = (),
    least: int = 2,
) -> None:
    """Run a kernel over independent rows, split over PyTorch's threads.

    Args:
        name: Entry point without its prefix; ``source/library.cpp`` says what each takes.
        sizes: Its sizes.
        tensors: Its pointers; None is a null pointer. They must stay referenced by the caller.
        count: Number of independent rows.
        numbers: Its further numbers.
        least: Fewest rows worth splitting.
    """
    function = getattr(load_library(), f"xlstm_{name}")
    packed_sizes = (ctypes.c_int64 * len(sizes))(*sizes)
    packed_numbers = (ctypes.c_double * len(numbers))(*numbers)
    pointers = (ctypes.c_void_p * len(tensors))(
        *[None if x is None else x.data_ptr() for x in tensors]
    )

    def run(part: int, first: int, last: int) -> None:
        rows = ctypes.c_int64(first), ctypes.c_int64(last), ctypes.c_int64(part)
        function(packed_sizes, packed_numbers, pointers, *rows)

    parts = num_parts(count) if count >= least else 1
    if parts == 1:
        run(0, 0, count)
        return
    borders = [count * i // parts for i in range(parts + 1)]
    # ctypes releases the interpreter's lock, so plain threads run side by side.
    running = [
        _pool(parts).submit(run, part, *border) for part, border in enumerate(pairwise(borders))
    ]
    for part in running:
        part.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="xlstm")
