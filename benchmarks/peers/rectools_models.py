"""RecTools' SASRec and HSTU on prepared data.

Models, initial weights, loss (full softmax) and Adam are RecTools' (0.19). Its data preparator
keeps only the last events of a user for training; histories are cut into windows first, so that it
learns from every training event as the models here do. Its training step is called without a
Lightning trainer around it, with batches that lie on the device.

HSTU reads times, and as RecTools documents it, it is told the time of the event that is asked for.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tasks.data.prepared import EvaluationSplit, PreparedData
from tasks.training.batches import cut_windows

SECOND = 1_000_000
"""Microseconds."""
MAX_EPOCHS, PATIENCE = 60, 6
"""An epoch is one pass over windows of many targets, so few steps: more of them than RecBole's."""


def interactions(data: PreparedData, max_len: int) -> Any:
    """Windows of the training sequences as RecTools reads interactions, each a user of its own."""
    import pandas as pd

    plan = cut_windows(np.asarray(data.train.offsets), max_len)
    events = plan.lengths + 1  # inputs, and the last target
    window = np.repeat(np.arange(len(events)), events)
    within = np.arange(events.sum()) - np.repeat(np.cumsum(events) - events, events)
    at = plan.starts[window] + within
    return pd.DataFrame(
        {
            "user_id": window,
            "item_id": np.asarray(data.train.items)[at].astype(np.int64),
            "weight": 1.0,
            "datetime": np.asarray(data.train.times)[at].astype("datetime64[us]"),
        }
    )


def build(name: str, shared: dict[str, Any], settings: dict[str, Any]) -> Any:
    """RecTools' model, not yet shown any data."""
    from rectools.models import HSTUModel, SASRecModel

    own: dict[str, Any] = {}
    if name == "rectools-hstu":
        own["lightning_module_kwargs"] = {"logits_t": settings["temperature"]}
    return (HSTUModel if name == "rectools-hstu" else SASRecModel)(
        n_factors=shared["width"],
        session_max_len=shared["max_seq_len"],
        batch_size=shared["batch_size"],
        lr=settings["learning_rate"],
        dropout_rate=settings["dropout"],
        n_blocks=settings["num_layers"],
        n_heads=settings["num_heads"],
        loss="softmax",
        **own,
    )


def pad_left(item_ids: Tensor, lengths: Tensor, width: int) -> Tensor:
    """Rows padded right as rows of ``width`` columns padded left.

    >>> pad_left(torch.tensor([[5, 6, 0], [7, 8, 9]]), torch.tensor([2, 3]), 4).tolist()
    [[0, 0, 5, 6], [0, 7, 8, 9]]
    """
    column = torch.arange(width, device=item_ids.device) - (width - lengths[:, None])
    taken = item_ids.gather(1, column.clamp(0, item_ids.shape[1] - 1))
    return torch.where(column >= 0, taken, 0)


def keep_known(values: Tensor, is_known: Tensor) -> Tensor:
    """Move what is kept of each row to its left, in order; the rest of the row is of no use.

    >>> keep_known(torch.tensor([[5, 6, 7]]), torch.tensor([[True, False, True]])).tolist()
    [[5, 7, 6]]
    """
    order = (~is_known).to(torch.int8).argsort(dim=1, stable=True)
    return values.gather(1, order)


class RecToolsTraining:
    """See `benchmarks.peers.fitting.Training`."""

    def __init__(
        self,
        name: str,
        data: PreparedData,
        shared: dict[str, Any],
        settings: dict[str, Any],
        seed: int,
        device: torch.device,
    ) -> None:
        from rectools.dataset import Dataset

        warnings.filterwarnings("ignore", message=".*self.log.*")
        torch.manual_seed(seed)
        np.random.seed(seed)
        self._width, self._reads_times = shared["max_seq_len"], name == "rectools-hstu"
        holder = build(name, shared, settings)
        holder._build_model_from_dataset(Dataset.construct(interactions(data, self._width)))
        self._module = holder.lightning_model
        self._module._xavier_normal_init()  # what a trainer would have it do first
        self.model = self._module.torch_model.to(device)
        self._optimizer = self._module.configure_optimizers()
        self._batch_size = shared["batch_size"]
        loader = holder.data_preparator.get_dataloader_train()
        examples = [loader.dataset[n] for n in range(len(loader.dataset))]
        self._examples = {k: v.to(device) for k, v in loader.collate_fn(examples).items()}
        known = np.asarray(holder.data_preparator.get_known_item_ids(), np.int64)
        self._known = torch.from_numpy(known).to(device)
        self._own_ids = torch.zeros(data.num_items + 1, dtype=torch.int64, device=device)
        self._own_ids[self._known] = torch.arange(1, len(known) + 1, device=device)

    def epoch(self) -> None:
        """Pass over all windows in random order."""
        device = self._known.device
        order = torch.randperm(len(self._examples["x"]), device=device)
        for number, chosen in enumerate(order.split(self._batch_size)):
            batch = {key: values[chosen] for key, values in self._examples.items()}
            self._optimizer.zero_grad()
            self._module.training_step(batch, number).backward()
            self._optimizer.step()

    def scorer(self, split: EvaluationSplit) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """Scores of histories; items that no training event has score lowest."""
        asked_at = torch.from_numpy(np.asarray(split.target_times) // SECOND)
        done = 0

        def score(item_ids: Tensor, lengths: Tensor, times: Tensor) -> Tensor:
            nonlocal done
            ids = self._own_ids[item_ids]
            is_known = ids > 0  # others are left out, as RecTools does
            lengths, ids = is_known.sum(1), keep_known(ids, is_known)
            batch = {"x": pad_left(ids, lengths, self._width)}
            if self._reads_times:
                asked = asked_at[done : done + len(item_ids)].to(item_ids.device)
                batch["unix_ts"] = self._timeline(
                    keep_known(times // SECOND, is_known), lengths, asked
                )
            done += len(item_ids)
            logits = self.model(batch=batch)[:, -1]
            scores = logits.new_full((len(item_ids), len(self._own_ids)), -torch.inf)
            scores[:, self._known] = logits[:, 1:]
            return scores.float()

        return score

    def _timeline(self, times: Tensor, lengths: Tensor, asked: Tensor) -> Tensor:
        """Seconds (B, width + 1): history padded with its first time, then the time asked for."""
        padded = pad_left(times, lengths, self._width)
        column = torch.arange(self._width, device=times.device)
        first = torch.where(lengths > 0, times[:, 0], asked)[:, None]
        is_padding = column < self._width - lengths[:, None]
        return torch.cat([torch.where(is_padding, first, padded), asked[:, None]], dim=1)
