"""States of many users in preallocated tensors, the least recently used one dropped when full."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from xlstm_model.state import map_state, named_tensors

FIRST_SLOTS = 64


class StateStore:
    """Keeps one state per user in at most `max_users` slots.

    Slots grow by doubling, so that few users need little memory. Dropping a user is counted in
    `evicted`, never silent.

    Args:
        empty: state of one user without any event; every tensor has the batch (1) first.
        max_users: most states kept at a time, at least 1.

    >>> store = StateStore((torch.zeros(1, 2),), max_users=2)
    >>> for user in "abc": store.write(user, (torch.full((1, 2), float(ord(user))),))
    >>> "a" in store, len(store), store.evicted
    (False, 2, 1)
    >>> store.read("c")[0].tolist()
    [[99.0, 99.0]]
    """

    def __init__(self, empty: Any, max_users: int) -> None:
        if max_users < 1:
            raise ValueError(f"max_users is {max_users}; expected room for at least 1 user.")
        self.max_users = max_users
        self.evicted = 0
        self._slots: OrderedDict[str, int] = OrderedDict()
        self._empty = map_state(lambda tensor: tensor.detach().clone(), empty)
        self._tensors = self._allocated(min(FIRST_SLOTS, max_users))

    def __contains__(self, user: str) -> bool:
        return user in self._slots

    def __iter__(self) -> Iterator[str]:
        """Users, the longest unheard of first."""
        return iter(self._slots)

    def __len__(self) -> int:
        """Users with a state."""
        return len(self._slots)

    @property
    def bytes_per_user(self) -> int:
        """Size of one state."""
        return sum(tensor.nbytes for _, tensor in named_tensors(self._empty))

    @property
    def nbytes(self) -> int:
        """Memory of all slots allocated so far."""
        return sum(tensor.nbytes for _, tensor in named_tensors(self._tensors))

    def read(self, user: str) -> Any:
        """State of a user, batch 1: views that the next `write` overwrites.

        Raises:
            KeyError: the store has none.
        """
        slot = self._slots[user]
        self._slots.move_to_end(user)
        return map_state(lambda tensor: tensor[slot : slot + 1], self._tensors)

    def write(self, user: str, state: Any) -> None:
        """Keep the state of a user; where the store is full, drop the longest unheard of."""
        slot = self._slots.get(user)
        if slot is None:
            slot = self._free_slot()
            self._slots[user] = slot
        self._slots.move_to_end(user)
        with torch.inference_mode():
            map_state(lambda kept, new: kept[slot].copy_(new[0]), self._tensors, state)

    def _free_slot(self) -> int:
        used = len(self._slots)
        if used == self.max_users:
            _, slot = self._slots.popitem(last=False)
            self.evicted += 1
            return slot
        capacity = next(named_tensors(self._tensors))[1].shape[0]
        if used == capacity:
            larger = self._allocated(min(2 * capacity, self.max_users))
            with torch.inference_mode():
                map_state(lambda new, old: new[:capacity].copy_(old), larger, self._tensors)
            self._tensors = larger
        return used

    def _allocated(self, slots: int) -> Any:
        def room(tensor: Tensor) -> Tensor:
            return torch.empty(slots, *tensor.shape[1:], dtype=tensor.dtype, device=tensor.device)

        with torch.inference_mode():
            return map_state(room, self._empty)
