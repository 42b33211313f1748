"""A look inside the blocks on a GPU, replayed as one CUDA graph.

The cells are replayed position by position: thousands of small operations, whose launches take many
times as long as a training step.
"""

from __future__ import annotations

import warnings

import torch
from torch import nn

from tasks.training.batches import Batch
from tasks.training.capture import capturing
from tasks.training.gates import NUM_ROWS, look_inside, numbers_of, watch
from xlstm_model.recorder import BlockRecord


class GraphLook:
    """`look_inside` for windows of one length on a GPU; that function itself elsewhere.

    The first look compiles kernels and runs one operation at a time. So do all looks at models that
    read times, and all where capturing fails, which is said once.

    Args:
        max_seq_len: events of the longest window.
    """

    def __init__(self, max_seq_len: int) -> None:
        self._width = max_seq_len
        self._calls = 0
        self._failed = False
        self._captured: _Captured | None = None

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, float]:
        """Numbers by their names; see `look_inside`."""
        fits = batch.item_ids.is_cuda and batch.times is None and not self._failed
        self._calls += 1
        if not fits or self._calls == 1:
            return look_inside(model, batch)
        if self._captured is None:
            try:
                self._captured = _Captured(model, batch, self._width)
            except RuntimeError as problem:
                self._failed = True
                warnings.warn(
                    "the recorder looks inside the blocks one operation at a time, as it could "
                    f"not be captured as a CUDA graph: {problem}",
                    RuntimeWarning,
                    stacklevel=2,
                )
                return look_inside(model, batch)
        return numbers_of(self._captured.replay(batch))


class _Captured:
    """One look's graph, the memory it reads and the records it writes."""

    def __init__(self, model: nn.Module, batch: Batch, width: int) -> None:
        self._item_ids = batch.item_ids.new_zeros(NUM_ROWS, width)
        self._mask = torch.zeros_like(self._item_ids, dtype=torch.bool)
        self._fill(batch)
        self._graph = torch.cuda.CUDAGraph()
        with capturing(self._graph):
            self._records = watch(model, self._item_ids, self._mask)

    def replay(self, batch: Batch) -> dict[str, BlockRecord]:
        """Records of a batch, overwritten by the next."""
        self._fill(batch)
        self._graph.replay()
        return self._records

    def _fill(self, batch: Batch) -> None:
        for target, values in ((self._item_ids, batch.item_ids), (self._mask, batch.mask)):
            target.zero_()
            rows = values[:NUM_ROWS]
            target[: rows.shape[0], : rows.shape[1]].copy_(rows)
