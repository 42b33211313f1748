"""Operations on recurrent states: nested tuples of tensors whose first dimension is the batch.

A state is plain data. ``MLSTMState``, ``SLSTMState``, the states of blocks and stacks, and any
nested tuple of tensors qualify; every function here returns a new state and leaves its argument as
it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from os import PathLike
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

State = TypeVar("State")

STATE_FORMAT_VERSION = "1"
"""Version written into saved states; a reader refuses any other."""

STABILIZER_FIELD = "m"
"""Name of the log-scale fields, whose empty value is -inf; every other field is empty at 0."""


def map_state(function: Callable[..., Tensor], state: State, *others: Any) -> State:
    """Apply a function to every tensor of a state, and to its counterparts in other states.

    Args:
        function: Takes one tensor per state and returns one tensor.
        state: A tensor or a nested tuple (named or not) of tensors.
        *others: States of the same structure.

    Raises:
        TypeError: If the state holds anything but tensors and tuples.

    >>> map_state(lambda t: t + 1, (torch.zeros(2), (torch.ones(1),)))
    (tensor([1., 1.]), (tensor([2.]),))
    """
    if isinstance(state, Tensor):
        return function(state, *others)
    if not isinstance(state, tuple):
        raise TypeError(
            f"a state holds {type(state).__name__}; expected tensors and tuples of them. "
            "Pass what forward, step or initial_state returned."
        )
    mapped = [map_state(function, *parts) for parts in zip(state, *others, strict=True)]
    return type(state)(*mapped) if hasattr(state, "_fields") else tuple(mapped)


def named_tensors(state: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor of a state with its dotted path.

    >>> [name for name, _ in named_tensors((torch.zeros(1), (torch.zeros(1),)))]
    ['0', '1.0']
    """
    if isinstance(state, Tensor):
        yield prefix.removesuffix("."), state
        return
    names = getattr(state, "_fields", None) or [str(i) for i in range(len(state))]
    for name, part in zip(names, state, strict=True):
        yield from named_tensors(part, f"{prefix}{name}.")


def detach_state(state: State) -> State:
    """Cut the state from the graph that made it, for truncated backpropagation through time.

    >>> detach_state((torch.ones(1, requires_grad=True),))[0].requires_grad
    False
    """
    return map_state(lambda tensor: tensor.detach(), state)


def index_select_state(state: State, index: Tensor) -> State:
    """Take samples by number: reorder, drop or repeat them (beam search, finished requests).

    Args:
        state: State of B samples.
        index: int64 (K,), entries in 0..B-1, repeats allowed.

    Returns:
        State of K samples.

    >>> index_select_state((torch.tensor([10, 20, 30]),), torch.tensor([2, 2, 0]))
    (tensor([30, 30, 10]),)
    """
    return map_state(lambda tensor: tensor.index_select(0, index), state)


def move_state(
    state: State,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> State:
    """Copy a state to a device, a floating dtype, or both; integer tensors keep their dtype.

    >>> move_state((torch.zeros(1), torch.zeros(1, dtype=torch.int64)), dtype=torch.float64)
    (tensor([0.], dtype=torch.float64), tensor([0]))
    """
    return map_state(
        lambda tensor: tensor.to(
            device=device, dtype=dtype if tensor.is_floating_point() else None
        ),
        state,
    )


def empty_state_like(state: State) -> State:
    """Empty state of the same structure, shapes, dtypes and devices: 0, and -inf for each ``m``.

    >>> from xlstm_model.cells import MLSTMState
    >>> full = MLSTMState(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2), torch.ones(1, 1))
    >>> empty_state_like(full).m
    tensor([[-inf]])
    """
    if isinstance(state, Tensor):
        return torch.zeros_like(state)
    names = getattr(state, "_fields", None) or [""] * len(state)
    parts = [
        torch.full_like(part, float("-inf"))
        if name == STABILIZER_FIELD and isinstance(part, Tensor)
        else empty_state_like(part)
        for name, part in zip(names, state, strict=True)
    ]
    return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)


def replace_samples(state: State, replacement: State, where: Tensor) -> State:
    """Take some samples from another state and leave the others untouched.

    Selection, not arithmetic: a NaN or infinity on the side not taken has no effect, nor has it on
    gradients.

    Args:
        state: State of B samples.
        replacement: State of the same structure and shapes.
        where: Bool (B,), True where the replacement is taken.

    Raises:
        ValueError: If ``where`` is not bool of shape (B,).

    >>> keep, new = (torch.tensor([1.0, 2.0]),), (torch.tensor([8.0, 9.0]),)
    >>> replace_samples(keep, new, torch.tensor([False, True]))
    (tensor([1., 9.]),)
    """

    def choose(old: Tensor, new: Tensor) -> Tensor:
        if where.dtype != torch.bool or where.shape != old.shape[:1]:
            raise ValueError(
                f"where is {where.dtype} of shape {tuple(where.shape)}; expected bool of shape "
                f"({old.shape[0]},), one entry per sample. Compare or index to make a bool mask."
            )
        return torch.where(where.reshape(-1, *[1] * (old.dim() - 1)), new, old)

    return map_state(choose, state, replacement)


def reset_state(state: State, where: Tensor) -> State:
    """Empty the state of some samples and leave the others exactly as they were.

    A model with learned initial states starts from those instead: use
    ``replace_samples(state, model.initial_state(B), where)``.

    Args:
        state: State of B samples.
        where: Bool (B,), True where the sample starts afresh.

    Raises:
        ValueError: If ``where`` is not bool of shape (B,).

    >>> reset_state((torch.tensor([[1.0], [2.0]]),), torch.tensor([True, False]))
    (tensor([[0.],
            [2.]]),)
    """
    return replace_samples(state, empty_state_like(state), where)


def save_state(state: Any, path: str | PathLike[str]) -> None:
    """Write a state to a safetensors file.

    Args:
        state: Any state.
        path: File to write; its folder exists.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_state((torch.ones(1),), folder + "/state.safetensors")
    ...     load_state(folder + "/state.safetensors", like=(torch.zeros(1),))
    (tensor([1.]),)
    """
    tensors = {name: tensor.detach().contiguous().clone() for name, tensor in named_tensors(state)}
    save_file(tensors, path, metadata={"format": f"xlstm_state/{STATE_FORMAT_VERSION}"})


def load_state(path: str | PathLike[str], like: State) -> State:
    """Read a state written by ``save_state``.

    Args:
        path: File written by ``save_state``.
        like: A state of the same model, for the structure, for example ``initial_state(1)``. Its
            batch size does not matter; the result is on the CPU, in the dtypes of the file.

    Raises:
        ValueError: If the file is of another format version, or its tensors have other names or
            shapes than the model's state.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_state((torch.ones(1),), folder + "/state.safetensors")
    ...     load_state(folder + "/state.safetensors", like=(torch.zeros(1), torch.zeros(1)))
    Traceback (most recent call last):
    ...
    ValueError: ...state.safetensors does not fit this model's state: 1 differ in name or shape...
    """
    with safe_open(path, framework="pt") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        written = (file.metadata() or {}).get("format", "none")
    if written != f"xlstm_state/{STATE_FORMAT_VERSION}":
        raise ValueError(
            f"{path} has format {written!r}; expected 'xlstm_state/{STATE_FORMAT_VERSION}'. "
            "Save the state again with save_state."
        )
    expected = {name: tensor.shape[1:] for name, tensor in named_tensors(like)}
    found = {name: tensor.shape[1:] for name, tensor in stored.items()}
    if expected != found:
        wrong = sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))
        raise ValueError(
            f"{path} does not fit this model's state: {', '.join(wrong[:5])} differ in name or "
            "shape. Load it with the model it was saved from."
        )
    names = iter([name for name, _ in named_tensors(like)])
    return map_state(lambda _: stored[next(names)], like)
