"""RecBole's GRU4Rec and SASRec on prepared data.

Model classes, losses, initial weights, batch size and AdamW are RecBole's (1.2.1), and so is its
way to train: every prefix of every history is an example of its own. Prefixes are cut on the
device instead of being copied by RecBole's data sets, and short ones of a batch are not padded to
the window: the same examples and gradients, sooner.
Item ids are this project's, as both keep 0 for padding and pad on the right.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tasks.data.prepared import EvaluationSplit, PreparedData

CLASSES = {"recbole-gru4rec": "GRU4Rec", "recbole-sasrec": "SASRec"}
BATCH = 2048
"""RecBole's own default."""
GROUPS = 4
"""Parts of a batch by the length of their prefixes, each padded to its own longest."""
MAX_EPOCHS, PATIENCE = 40, 6


class _Catalogue:
    """The one thing RecBole's models ask of a data set."""

    def __init__(self, num_items: int) -> None:
        self._num_items = num_items

    def num(self, field: str) -> int:
        """Number of ids of a field, padding included."""
        return self._num_items + 1


def _sizes(name: str, settings: dict[str, Any], width: int) -> dict[str, Any]:
    """A model's settings by RecBole's names; what is not named is its default."""
    if name == "recbole-gru4rec":
        return {
            "embedding_size": width,
            "num_layers": settings["num_layers"],
            "dropout_prob": settings["dropout"],
        }
    return {
        "hidden_size": width,
        "n_layers": settings["num_layers"],
        "n_heads": settings["num_heads"],
        "hidden_dropout_prob": settings["dropout"],
        "attn_dropout_prob": settings["dropout"],
    }


def _restore_numpy_names() -> None:
    """Give NumPy 2 the names of NumPy 1 that RecBole's settings ask for."""
    old = {"float_": np.float64, "complex_": np.complex128, "unicode_": np.str_}
    for alias, kind in old.items():
        if alias not in np.__dict__:
            setattr(np, alias, kind)


def build(name: str, num_items: int, settings: dict[str, Any], width: int, max_len: int) -> Any:
    """RecBole's model with new weights."""
    _restore_numpy_names()
    from recbole.config import Config
    from recbole.utils import get_model

    # Importing its models (SINE) searches every gradient of the process for NaN from then on.
    torch.autograd.set_detect_anomaly(False)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    values = {
        **_sizes(name, settings, width),
        "MAX_ITEM_LIST_LENGTH": max_len,
        "loss_type": "CE",
        "train_neg_sample_args": None,
        "use_gpu": False,
    }
    config = Config(model=CLASSES[name], dataset="prepared", config_dict=values)
    if visible is not None:  # RecBole sets it
        os.environ["CUDA_VISIBLE_DEVICES"] = visible
    return get_model(CLASSES[name])(config, _Catalogue(num_items))


def prefixes(offsets: np.ndarray, max_len: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each example's target stands, and how many events before it are its history.

    >>> at, lengths = prefixes(np.array([0, 4, 6]), max_len=2)
    >>> at.tolist(), lengths.tolist()
    ([1, 2, 3, 5], [1, 2, 2, 1])
    """
    first = np.repeat(offsets[:-1], np.diff(offsets))
    before = np.arange(offsets[-1]) - first
    at = np.flatnonzero(before > 0)
    return at, np.minimum(before[at], max_len)


def backward_in_groups(
    chosen: Tensor, lengths: Tensor, mean_loss: Callable[[Tensor], Tensor]
) -> None:
    """Add up the gradient of a batch's mean loss group by group.

    Args:
        chosen: (n,) examples of the batch.
        lengths: Of all examples.
        mean_loss: Of some examples, which come shortest first.
    """
    by_length = chosen[lengths[chosen].argsort()]
    for group in by_length.split(-(-len(chosen) // GROUPS)):
        (mean_loss(group) * (len(group) / len(chosen))).backward()


class RecBoleTraining:
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
        torch.manual_seed(seed)
        np.random.seed(seed)
        max_len = shared["max_seq_len"]
        self.model = build(name, data.num_items, settings, shared["width"], max_len).to(device)
        self._optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=settings["learning_rate"],
            weight_decay=settings["weight_decay"],
        )
        at, lengths = prefixes(np.asarray(data.train.offsets), max_len)
        self._items = torch.from_numpy(np.asarray(data.train.items, np.int64)).to(device)
        self._at = torch.from_numpy(at).to(device)
        self._lengths = torch.from_numpy(lengths).to(device)

    def epoch(self) -> None:
        """Pass over all prefixes in random order."""
        order = torch.randperm(len(self._at), device=self._at.device)
        for chosen in order.split(BATCH):
            self._optimizer.zero_grad()
            backward_in_groups(chosen, self._lengths, self._loss)
            self._optimizer.step()

    def _loss(self, chosen: Tensor) -> Tensor:
        """Mean loss of some prefixes, padded to the longest of them."""
        at, lengths = self._at[chosen], self._lengths[chosen]
        columns = torch.arange(int(lengths[-1]), device=at.device)
        where = (at - lengths)[:, None] + columns
        real = columns < lengths[:, None]
        histories = torch.where(real, self._items[where.clamp(max=len(self._items) - 1)], 0)
        batch = {self.model.ITEM_SEQ: histories, self.model.ITEM_SEQ_LEN: lengths}
        return self.model.calculate_loss({**batch, self.model.POS_ITEM_ID: self._items[at]})

    def scorer(self, split: EvaluationSplit) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """Scores of histories."""

        def score(item_ids: Tensor, lengths: Tensor, times: Tensor) -> Tensor:
            batch = {self.model.ITEM_SEQ: item_ids, self.model.ITEM_SEQ_LEN: lengths}
            return self.model.full_sort_predict(batch).float()

        return score
