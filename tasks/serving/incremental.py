"""Recommending while events come in: one more event costs one step, however long the history.

Recurrent models keep their state. Every other model keeps the window of events it is shown and
reads it again. What a user's state says about the future never depends on other users.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from tasks.serving.history import NO_HISTORY, History
from tasks.serving.recommend import Recommendation, Scorer, best_items, reads_times
from tasks.serving.state_store import StateStore
from xlstm_model import SequenceRecommender


class Form(Protocol):
    """How a model takes in events; states are nested tuples of tensors of batch 1."""

    def empty(self) -> Any:
        """State of a user without events."""
        ...

    def after_history(self, history: History) -> Any:
        """State after a whole history of at least one event."""
        ...

    def after_event(self, state: Any, item: int, time: int | None) -> Any:
        """State after one more event; the given state is left as it was."""
        ...

    def scores(self, state: Any) -> Tensor:
        """Scores (1, V) of the next item."""
        ...


class RecurrentState(NamedTuple):
    """State of a recurrent model and the hidden state (1, D) it answers with."""

    hidden: Tensor
    recurrent: Any


class RecurrentForm:
    """Takes one recurrent step per event.

    Args:
        model: a `SequenceRecommender` around a core without a limit on its positions.
    """

    def __init__(self, model: SequenceRecommender) -> None:
        self.model = model.eval()

    def empty(self) -> RecurrentState:
        """See `Form.empty`."""
        hidden = self.model.item_embedding.weight.new_zeros(1, self.model.embedding_dim)
        return RecurrentState(hidden, self.model.initial_state(1))

    def after_history(self, history: History) -> RecurrentState:
        """See `Form.after_history`."""
        times = None
        if self.model.time_gaps is not None and history.times is not None:
            times = torch.as_tensor(history.times)[None]
        hidden, state = self.model.encode(torch.as_tensor(history.items)[None], times=times)
        return RecurrentState(hidden if hidden.dim() == 2 else hidden[:, -1], state)

    def after_event(self, state: RecurrentState, item: int, time: int | None) -> RecurrentState:
        """See `Form.after_event`."""
        times = None if time is None else torch.tensor([time])
        return RecurrentState(*self.model.step(torch.tensor([item]), state.recurrent, times=times))

    def scores(self, state: RecurrentState) -> Tensor:
        """See `Form.scores`."""
        return self.model.next_scores(state.hidden, state.recurrent)


class WindowState(NamedTuple):
    """The last W events: items and times int64 (1, W), newest last, and how many are real (1,)."""

    items: Tensor
    times: Tensor
    length: Tensor


class WindowForm:
    """Keeps the events a model is shown and scores them anew.

    Args:
        model: any recommender.
        max_len: most recent events it is shown.
    """

    def __init__(self, model: Scorer, max_len: int) -> None:
        self.model, self.max_len = model, max_len

    def empty(self) -> WindowState:
        """See `Form.empty`."""
        nothing = torch.zeros(1, self.max_len, dtype=torch.int64)
        return WindowState(nothing, nothing, torch.zeros(1, dtype=torch.int64))

    def after_history(self, history: History) -> WindowState:
        """See `Form.after_history`."""
        empty = self.empty()
        length = min(len(history.items), self.max_len)
        items, times = empty.items.clone(), empty.times.clone()
        items[0, -length:] = torch.as_tensor(history.items[-length:])
        if history.times is not None:
            times[0, -length:] = torch.as_tensor(history.times[-length:])
        return WindowState(items, times, torch.tensor([length]))

    def after_event(self, state: WindowState, item: int, time: int | None) -> WindowState:
        """See `Form.after_event`."""
        return WindowState(
            shifted(state.items, item),
            shifted(state.times, time or 0),
            (state.length + 1).clamp(max=self.max_len),
        )

    def scores(self, state: WindowState) -> Tensor:
        """See `Form.scores`."""
        length = int(state.length)
        events = slice(self.max_len - length, self.max_len)
        return self.model.score(state.items[:, events], state.length, state.times[:, events])


def shifted(window: Tensor, newest: int) -> Tensor:
    """A window (1, W) one event later.

    >>> shifted(torch.tensor([[4, 5, 6]]), 7)
    tensor([[5, 6, 7]])
    """
    return torch.cat([window[:, 1:], window.new_tensor([[newest]])], dim=1)


def form_of(model: Any, max_len: int) -> Form:
    """The cheapest exact way to feed a model event by event.

    Args:
        model: a recommender; a neural one holds its `SequenceRecommender` in `model`.
        max_len: most recent events it is shown, for models without a recurrent form.
    """
    network = getattr(model, "model", None)
    if isinstance(network, SequenceRecommender):
        # Attention over learned positions has a longest history; recurrent cores have none.
        is_windowed = hasattr(network.sequence_model, "max_seq_len")
        if not is_windowed:
            return RecurrentForm(network)
    return WindowForm(model, max_len)


class IncrementalRecommender:
    """Feeds events to a model one at a time and recommends from what it knows of each user.

    Args:
        model: any recommender.
        max_len: most recent events shown to models without a recurrent form.
        max_users: states kept; see `StateStore`.
        popularity: (V,) training events by item, which answer for users without any event.
        history_of: history of a user whose state is not kept, for example from prepared data;
            asked once, when the user first appears or comes back after being dropped.
        seen_window: last events left out of recommendations; 0 leaves out none.
    """

    def __init__(
        self,
        model: Scorer,
        *,
        max_len: int,
        max_users: int = 10_000,
        popularity: np.ndarray | None = None,
        history_of: Callable[[str], History] | None = None,
        seen_window: int = 0,
    ) -> None:
        self.model, self.popularity, self.seen_window = model, popularity, seen_window
        self.form = form_of(model, max_len)
        self._history_of = history_of or (lambda user: NO_HISTORY)
        with torch.inference_mode():
            self.store = StateStore(self._tracked(self.form.empty(), NO_HISTORY), max_users)

    def start(self, user: str, history: History) -> None:
        """Read a user's history at once; what was known of the user is replaced."""
        with torch.inference_mode():
            known = len(history.items) > 0
            state = self.form.after_history(history) if known else self.form.empty()
            self.store.write(user, self._tracked(state, history))

    def feed(self, user: str, item: int, time: int | None = None) -> None:
        """Take in one event.

        Args:
            user: any text; a new one starts from `history_of`.
            item: encoded id, 1..num_items.
            time: microseconds since the epoch; needed by models that read times.

        Raises:
            ValueError: an item outside the vocabulary, or a time that is needed and absent.
        """
        if not 1 <= item <= self.model.num_items:
            raise ValueError(
                f"item is {item}; expected an encoded id in 1..{self.model.num_items}."
            )
        if time is None and reads_times(self.model):
            raise ValueError(f"{self.model.name} reads times; expected a time with each event.")
        state, seen, events = self._state(user)
        with torch.inference_mode():
            state = self.form.after_event(state, item, time)
            seen = shifted(seen, item) if self.seen_window else seen
            self.store.write(user, (state, seen, events + 1))

    def scores(self, user: str) -> Tensor:
        """Scores (1, V) of the next item of a user, column 0 -inf."""
        with torch.inference_mode():
            return self.form.scores(self._state(user)[0])

    def recommend(self, user: str, top_k: int) -> Recommendation:
        """The best items for a user now.

        Raises:
            ValueError: nothing is known of the user and popularity is not to answer.
        """
        state, seen, events = self._state(user)
        with torch.inference_mode():
            if int(events) == 0:
                return self._most_popular(top_k)
            left_out = [seen[0][seen[0] > 0].numpy()] if self.seen_window else None
            return best_items(self.form.scores(state), top_k, self.model.name, left_out)[0]

    def events(self, user: str) -> int:
        """Events the user's state has taken in."""
        return int(self._state(user)[2])

    def _state(self, user: str) -> Any:
        if user not in self.store:
            self.start(user, self._history_of(user))
        return self.store.read(user)

    def _tracked(self, state: Any, history: History) -> Any:
        """A state with the items to leave out, int64 (1, W), and the number of events, (1,)."""
        seen = torch.zeros(1, self.seen_window, dtype=torch.int64)
        length = min(len(history.items), self.seen_window)
        if length:
            seen[0, -length:] = torch.as_tensor(history.items[-length:])
        return (state, seen, torch.tensor([len(history.items)]))

    def _most_popular(self, top_k: int) -> Recommendation:
        if self.popularity is None:
            raise ValueError("no event is known of this user; feed one first.")
        counts = torch.as_tensor(np.array(self.popularity), dtype=torch.float32)[None].clone()
        counts[:, 0] = -torch.inf
        return best_items(counts, top_k, "popularity")[0]
