from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tasks.serving.state_store import StateStore


def state(value: float) -> tuple[torch.Tensor, tuple[torch.Tensor]]:
    return (torch.full((1, 3), value), (torch.tensor([int(value)]),))


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(1, 6))
def test_it_keeps_exactly_the_most_recently_used_users(users: list[int], room: int) -> None:
    store = StateStore(state(0.0), max_users=room)
    for moment, user in enumerate(users):
        store.write(str(user), state(float(moment)))
    newest = {user: moment for moment, user in enumerate(users)}
    kept = sorted(newest, key=lambda user: newest[user])[-room:]
    assert list(store) == [str(user) for user in kept]
    for user in kept:
        number, (whole,) = store.read(str(user))
        assert number.tolist() == [[newest[user]] * 3]
        assert whole.tolist() == [newest[user]]


def test_reading_counts_as_use() -> None:
    store = StateStore(state(0.0), max_users=2)
    store.write("a", state(1.0))
    store.write("b", state(2.0))
    store.read("a")
    store.write("c", state(3.0))
    assert list(store) == ["a", "c"]


def test_memory_grows_with_the_users_up_to_the_limit() -> None:
    store = StateStore(state(0.0), max_users=200)
    first = store.nbytes
    for user in range(500):
        store.write(str(user), state(float(user)))
    assert first < store.nbytes == 200 * store.bytes_per_user
    assert store.bytes_per_user == 3 * 4 + 8
    assert (len(store), store.evicted) == (200, 300)


def test_what_was_read_is_not_changed_by_writing_someone_else() -> None:
    store = StateStore(state(0.0), max_users=3)
    store.write("a", state(1.0))
    before = store.read("a")[0]
    store.write("b", state(2.0))
    assert before.tolist() == [[1.0] * 3]


def test_no_room_is_refused() -> None:
    with pytest.raises(ValueError, match="max_users is 0"):
        StateStore(state(0.0), max_users=0)
