"""Training batches: every position predicts its next item, without prefix copies.

A sequence of n events holds n - 1 (input, target) pairs. Sequences of at most ``max_seq_len`` pairs
are one window; longer ones are cut into consecutive windows of ``max_seq_len`` pairs, so that each
pair is seen exactly once per epoch. The first cut of every long sequence is drawn anew in each
epoch, uniformly from 1..``max_seq_len``, so that no pair is always the first of its window.

Windows, their order and every batch's seed are functions of (seed, epoch, batch number) alone: the
position of the sampler is two integers, and resuming needs no replay.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """One batch of right-padded windows.

    Attributes:
        item_ids: (B, S) int64, inputs, 0 where padded.
        targets: (B, S) int64, the item after each input, 0 where padded.
        mask: (B, S) bool, True at real positions.
        positions: (T,) int64, flat indices (row * S + column) of the real positions, row by row.
        users: (B,) int64, index of the sequence each window was cut from.
        times: (B, S) int64 microseconds, 0 where padded; None when the batches carry no times.
        seed: seed of this batch's own random numbers (dropout, negatives).
    """

    item_ids: Tensor
    targets: Tensor
    mask: Tensor
    positions: Tensor
    users: Tensor
    times: Tensor | None
    seed: int

    @property
    def num_targets(self) -> int:
        """Real positions T, known without asking the device."""
        return self.positions.numel()


@dataclass(frozen=True)
class WindowPlan:
    """Windows of one epoch in training order; arrays (W,) int64."""

    starts: np.ndarray  # index of the first input in the flat item array
    lengths: np.ndarray  # pairs in the window, 1..max_seq_len
    users: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)


def cut_windows(
    offsets: np.ndarray, max_seq_len: int, rng: np.random.Generator | None = None
) -> WindowPlan:
    """Cuts packed sequences into windows that cover each (input, target) pair once.

    Args:
        offsets: (U + 1,) int64, sequence u is ``items[offsets[u]:offsets[u + 1]]``.
        max_seq_len: longest window, in inputs, at least 1.
        rng: draws the length of the first window of sequences too long for one; None cuts them
            at multiples of ``max_seq_len``.

    Returns:
        The windows in the order of the sequences; sequences of fewer than two events have none.

    >>> plan = cut_windows(np.array([0, 1, 4, 10]), max_seq_len=3)
    >>> plan.starts.tolist(), plan.lengths.tolist(), plan.users.tolist()
    ([1, 4, 7], [2, 3, 2], [1, 2, 2])
    """
    offsets = np.asarray(offsets, dtype=np.int64)
    pairs = np.diff(offsets) - 1
    users = np.flatnonzero(pairs > 0)
    pairs = pairs[users]
    first = np.minimum(pairs, max_seq_len)
    if rng is not None:
        drawn = rng.integers(1, max_seq_len + 1, size=len(users))
        first = np.where(pairs > max_seq_len, drawn, first)
    counts = 1 + -(-(pairs - first) // max_seq_len)
    window = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    first, pairs, owner = (np.repeat(array, counts) for array in (first, pairs, users))
    begin = np.where(window == 0, 0, first + (window - 1) * max_seq_len)
    end = np.minimum(pairs, first + window * max_seq_len)
    return WindowPlan(starts=offsets[owner] + begin, lengths=end - begin, users=owner)


def shuffle_windows(
    plan: WindowPlan, batch_size: int, rng: np.random.Generator, bucket_batches: int = 1
) -> WindowPlan:
    """Puts windows in random order, optionally with similar lengths together.

    Args:
        plan: windows in any order.
        batch_size: windows per batch.
        rng: source of the order.
        bucket_batches: batches whose windows are sorted by length together before the batches are
            shuffled; 1 leaves the order fully random, larger values save padding.
    """
    order = rng.permutation(len(plan))
    if bucket_batches > 1:
        bucket = np.arange(len(order)) // (bucket_batches * batch_size)
        order = order[np.lexsort((plan.lengths[order], bucket))]
        # Only full batches change place: the last, smaller one has to stay last.
        full = len(order) // batch_size * batch_size
        batches = order[:full].reshape(-1, batch_size)
        order = np.concatenate([batches[rng.permutation(len(batches))].ravel(), order[full:]])
    return WindowPlan(plan.starts[order], plan.lengths[order], plan.users[order])


class WindowBatches:
    """Seeded, resumable source of training batches over packed sequences.

    Args:
        items: (N,) integer item ids, 1..num_items; copied to ``device`` once.
        offsets: (U + 1,) int64.
        max_seq_len: longest window, in inputs.
        batch_size: windows per batch; the last batch of an epoch may be smaller.
        seed: everything random here derives from it.
        times: (N,) int64 microseconds, when the model reads times.
        device: where batches are built.
        bucket_batches: see `shuffle_windows`.

    Raises:
        ValueError: no sequence has two events, or an argument is out of range.
    """

    def __init__(
        self,
        items: np.ndarray,
        offsets: np.ndarray,
        *,
        max_seq_len: int,
        batch_size: int,
        seed: int,
        times: np.ndarray | None = None,
        device: str | torch.device = "cpu",
        bucket_batches: int = 1,
    ) -> None:
        for name, value in (
            ("max_seq_len", max_seq_len),
            ("batch_size", batch_size),
            ("bucket_batches", bucket_batches),
        ):
            if value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1.")
        self.max_seq_len = max_seq_len
        self.batch_size = batch_size
        self.seed = seed
        self.bucket_batches = bucket_batches
        self.device = torch.device(device)
        self.offsets = np.array(offsets, dtype=np.int64)
        self.num_skipped = int((np.diff(self.offsets) < 2).sum())
        if self.num_skipped == len(self.offsets) - 1:
            raise ValueError(
                f"none of the {self.num_skipped} training sequences has two events; expected at "
                "least one input and its target. Lower the k-core or rating filters."
            )
        self._items = torch.from_numpy(np.array(items, dtype=np.int32)).to(self.device)
        self._times = None
        if times is not None:
            self._times = torch.from_numpy(np.array(times, dtype=np.int64)).to(self.device)
        self._columns = torch.arange(max_seq_len, device=self.device)
        self._cached: tuple[int, WindowPlan] | None = None

    @property
    def longest_window(self) -> int:
        """Pairs of the longest window; below the limit where no sequence is as long."""
        return min(self.max_seq_len, int(np.diff(self.offsets).max()) - 1)

    def plan(self, epoch: int) -> WindowPlan:
        """Windows of one epoch in training order."""
        if self._cached is None or self._cached[0] != epoch:
            rng = np.random.default_rng([self.seed, epoch])
            windows = cut_windows(self.offsets, self.max_seq_len, rng)
            shuffled = shuffle_windows(windows, self.batch_size, rng, self.bucket_batches)
            self._cached = (epoch, shuffled)
        return self._cached[1]

    def num_batches(self, epoch: int) -> int:
        """Batches of an epoch; differs a little between epochs, as the cuts do."""
        return -(-len(self.plan(epoch)) // self.batch_size)

    def mean_shape(self, epoch: int) -> tuple[float, float]:
        """Windows of a batch and pairs of its longest one, means over an epoch's batches."""
        lengths = self.plan(epoch).lengths
        starts = np.arange(0, len(lengths), self.batch_size)
        return len(lengths) / len(starts), float(np.maximum.reduceat(lengths, starts).mean())

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Batches ``start``, ``start + 1``, ... of an epoch."""
        for number in range(start, self.num_batches(epoch)):
            yield self.batch(epoch, number)

    def batch(self, epoch: int, number: int) -> Batch:
        """Builds one batch on the device, without waiting for the device."""
        plan = self.plan(epoch)
        chosen = slice(number * self.batch_size, (number + 1) * self.batch_size)
        host = np.stack([plan.starts[chosen], plan.lengths[chosen], plan.users[chosen]])
        width, total = int(host[1].max()), int(host[1].sum())
        starts, lengths, users = torch.from_numpy(host).to(self.device, non_blocking=True)
        columns = self._columns[:width]
        mask = columns < lengths[:, None]
        # The index of a padded position may run past the array; it is masked anyway.
        index = (starts[:, None] + columns).clamp_(max=len(self._items) - 2)
        rows = torch.repeat_interleave(
            torch.arange(len(lengths), device=self.device), lengths, output_size=total
        )
        before = (lengths.cumsum(0) - lengths)[rows]
        return Batch(
            item_ids=self._items[index].long() * mask,
            targets=self._items[index + 1].long() * mask,
            mask=mask,
            positions=rows * width + torch.arange(total, device=self.device) - before,
            users=users,
            times=None if self._times is None else self._times[index] * mask,
            seed=batch_seed(self.seed, epoch, number),
        )


def batch_seed(seed: int, epoch: int, number: int) -> int:
    """Seed of one batch's random numbers, in 0..2**63 - 1, well mixed in all three arguments.

    >>> batch_seed(0, 1, 2) == batch_seed(0, 1, 2), batch_seed(0, 1, 2) == batch_seed(0, 2, 1)
    (True, False)
    """
    state = np.random.SeedSequence([seed, epoch, number]).generate_state(1, np.uint64)
    return int(state[0]) >> 1
