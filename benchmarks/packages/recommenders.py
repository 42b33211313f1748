"""Sequential recommenders of public packages, by each one's documentation."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_LEN = 50
WIDTH = 32
USUAL = {
    "USER_ID_FIELD": "user_id",
    "ITEM_ID_FIELD": "item_id",
    "LIST_SUFFIX": "_list",
    "ITEM_LIST_LENGTH_FIELD": "item_length",
    "NEG_PREFIX": "neg_",
    "MAX_ITEM_LIST_LENGTH": MAX_LEN,
    "device": "cpu",
    "loss_type": "CE",
    "embedding_size": WIDTH,
    "hidden_size": WIDTH,
    "num_layers": 1,
    "n_layers": 2,
    "n_heads": 2,
    "inner_size": 2 * WIDTH,
    "dropout_prob": 0.3,
    "hidden_dropout_prob": 0.5,
    "attn_dropout_prob": 0.5,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "initializer_range": 0.02,
    "dropout_probs": [0.25, 0.5],
    "block_num": 2,
    "dilations": [1, 4],
    "kernel_size": 3,
    "reg_weight": 1e-5,
}
"""RecBole's settings: its defaults, but for narrower and shallower layers."""


class FullSort(nn.Module):
    """A RecBole model asked as RecBole asks it: scores of all items after each history."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, item_seq: Tensor, item_seq_len: Tensor) -> Tensor:
        """Return scores (B, V) after right-padded histories (B, S)."""
        return self.model.full_sort_predict({"item_id_list": item_seq, "item_length": item_seq_len})


def _recbole(name: str, num_items: int, **settings: Any) -> nn.Module:
    from recbole.model import sequential_recommender

    dataset = SimpleNamespace(num=lambda field: num_items + 1)
    return FullSort(getattr(sequential_recommender, name)({**USUAL, **settings}, dataset))


def recbole_gru4rec(num_items: int) -> nn.Module:
    """RecBole's GRU4Rec."""
    return _recbole("GRU4Rec", num_items)


def recbole_sasrec(num_items: int) -> nn.Module:
    """RecBole's SASRec."""
    return _recbole("SASRec", num_items)


def recbole_narm(num_items: int) -> nn.Module:
    """RecBole's NARM."""
    return _recbole("NARM", num_items, n_layers=1)


def recbole_stamp(num_items: int) -> nn.Module:
    """RecBole's STAMP."""
    return _recbole("STAMP", num_items)


def recbole_nextitnet(num_items: int) -> nn.Module:
    """RecBole's NextItNet."""
    return _recbole("NextItNet", num_items)


class FromDict(nn.Module):
    """A Torch-RecHub model that takes a dictionary of features."""

    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__()
        self.model, self.name = model, name

    def forward(self, item_ids: Tensor) -> Tensor:
        """Return whatever the model returns for histories (B, S)."""
        return self.model({self.name: item_ids})


def _history(num_items: int, name: str) -> Any:
    from torch_rechub.basic.features import SequenceFeature

    return SequenceFeature(
        name, vocab_size=num_items + 1, embed_dim=WIDTH, pooling="concat", padding_idx=0
    )


class Cosine(nn.Module):
    """Torch-RecHub's GRU4Rec as it is trained: cosines of user tower and items."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, item_ids: Tensor) -> Tensor:
        """Return scores (B, V); all users share the one value of the only user feature."""
        user = self.model({"group": item_ids.new_zeros(len(item_ids)), "history": item_ids})
        items = self.model.embedding.embed_dict["history"].weight
        return user @ F.normalize(items, dim=-1).T


def rechub_gru4rec(num_items: int) -> nn.Module:
    """Torch-RecHub's GRU4Rec, user tower."""
    from torch_rechub.basic.features import SparseFeature
    from torch_rechub.models.matching import GRU4Rec

    groups, history = SparseFeature("group", 1, WIDTH), _history(num_items, "history")
    model = GRU4Rec([groups], [history], [], [], {"dims": [64, WIDTH]})
    model.mode = "user"
    return Cosine(model)


def rechub_sasrec(num_items: int) -> nn.Module:
    """Torch-RecHub's SASRec, user tower."""
    from torch_rechub.models.matching import SASRec

    model = SASRec([_history(num_items, "seq")], max_len=MAX_LEN)
    model.mode = "user"
    return FromDict(model, "seq")


def rechub_narm(num_items: int) -> nn.Module:
    """Torch-RecHub's NARM."""
    from torch_rechub.models.matching import NARM

    return FromDict(NARM(_history(num_items, "history"), WIDTH, 0.25, 0.5), "history")


def rechub_stamp(num_items: int) -> nn.Module:
    """Torch-RecHub's STAMP."""
    from torch_rechub.models.matching import STAMP

    return FromDict(STAMP(_history(num_items, "history"), 0.05, 0.002), "history")


def rechub_hstu(num_items: int) -> nn.Module:
    """Torch-RecHub's HSTU."""
    from torch_rechub.models.generative import HSTUModel

    return HSTUModel(
        num_items + 1, WIDTH, n_heads=2, n_layers=2, dqk=16, dv=16, max_seq_len=MAX_LEN
    )


class LeftPadded(nn.Module):
    """RecTools' network, given sessions as its data preparator makes them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, item_ids: Tensor) -> Tensor:
        """Return scores (B, S, V); sessions are filled up with padding on the left."""
        extra = item_ids.new_zeros(len(item_ids), max(0, MAX_LEN - item_ids.shape[1]))
        scores = self.network({"x": torch.cat([extra, item_ids], dim=1)})
        return scores[:, extra.shape[1] :]


def _rectools(model: Any, num_items: int) -> nn.Module:
    import pandas as pd
    from rectools import Columns
    from rectools.dataset import Dataset

    frame = pd.DataFrame(
        {
            Columns.User: [item % 5 for item in range(num_items)],
            Columns.Item: [f"i{item:03d}" for item in range(num_items)],
            Columns.Weight: 1.0,
            Columns.Datetime: pd.Timestamp("2024-01-01"),
        }
    )
    model._build_model_from_dataset(Dataset.construct(frame))
    model.lightning_model._xavier_normal_init()  # as its training does before the first step
    return LeftPadded(model.lightning_model.torch_model)


def rectools_sasrec(num_items: int) -> nn.Module:
    """RecTools' SASRec."""
    from rectools.models.nn.transformers.sasrec import SASRecModel

    return _rectools(
        SASRecModel(n_factors=WIDTH, n_heads=2, session_max_len=MAX_LEN, epochs=1), num_items
    )
