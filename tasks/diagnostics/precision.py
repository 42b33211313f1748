"""Does a program that is given float64 compute in it, or does it narrow on its way?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


def narrows(call: Callable[[], Any]) -> bool:
    """Return whether an operation of `call` takes float64 and gives a narrower float.

    A state kept in float32 does: what is written into it is rounded. A float32 mask that is
    multiplied with float64 does not.

    >>> x = torch.ones(2, dtype=torch.float64)
    >>> narrows(lambda: x * torch.ones(2)), narrows(lambda: torch.zeros(2).copy_(x))
    (False, True)
    """
    watch = _Watch()
    with watch:
        call()
    return watch.found


class _Watch(TorchDispatchMode):
    """Looks at the types of what operations take and give."""

    found = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        wide = any(t.dtype == torch.float64 for t in _tensors((args, kwargs)))
        narrow = (torch.float32, torch.float16, torch.bfloat16)
        if wide and any(t.dtype in narrow for t in _tensors(result)):
            self.found = True
        return result


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)
