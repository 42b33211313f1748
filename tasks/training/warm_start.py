"""Beginning a training where the last one of the same model ended, on a log that has grown.

Items are matched by their raw ids, as encoded ids change with the vocabulary: rows of items that
are still there are taken over, new items keep their fresh initial values. All other weights are
taken over where name and shape are the same.

The training before the last is kept too: one that is made again, because it was killed before its
result was taken note of, say, begins where it began the first time.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tasks.data.integrity import sha256_of
from tasks.data.storage import replaced_folder

ITEM_TENSORS = ("item_embedding.weight", "output_weight")
"""Tensors with a row per item, row 0 for padding."""

WEIGHTS, VOCABULARY, CHECKSUMS = "model.safetensors", "items.csv", "sha256.json"
MADE_BY, BEFORE = "made_by.txt", "before"


@dataclass(frozen=True)
class WarmStart:
    """What a training began from.

    Attributes:
        items_kept: items whose rows were taken over.
        items_new: items of the vocabulary that were not known before.
        tensors_kept: tensors taken over, item rows included.
        tensors_new: tensors whose name or shape was not there before.
    """

    items_kept: int
    items_new: int
    tensors_kept: int
    tensors_new: int

    def __str__(self) -> str:
        return (
            f"begins from the last training: {self.items_kept} items known, {self.items_new} new; "
            f"{self.tensors_kept} tensors taken over, {self.tensors_new} fresh"
        )


def place_of(workspace: Path, model: str, seed: int) -> Path:
    """Where the last training of a model is kept; no stage owns it."""
    return workspace / ".assay" / "warm" / f"{model}_seed_{seed}"


def source(place: Path, made_by: str) -> Path:
    """What a training begins from: the last one, or what that one began from if it is the same.

    Args:
        place: See `place_of`.
        made_by: Names the training by its data and settings.
    """
    path = place / MADE_BY
    is_same = path.is_file() and path.read_text(encoding="utf-8") == made_by
    return place / BEFORE if is_same else place


def identity(place: Path) -> str:
    """Digest of what a training would begin from; '' where there is nothing."""
    path = place / WEIGHTS
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def keep(model_folder: Path, vocabulary: Path, place: Path, made_by: str) -> None:
    """Keep a finished training for the next one, replacing the one before in one move.

    Args:
        model_folder: With `WEIGHTS`.
        vocabulary: ``items.csv`` of the prepared data it was trained on.
        place: See `place_of`.
        made_by: See `source`.
    """
    before = source(place, made_by)
    with replaced_folder(place) as folder:
        (folder / WEIGHTS).write_bytes((model_folder / WEIGHTS).read_bytes())
        (folder / VOCABULARY).write_bytes(vocabulary.read_bytes())
        sums = {name: sha256_of(folder / name) for name in (WEIGHTS, VOCABULARY)}
        (folder / CHECKSUMS).write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")
        (folder / MADE_BY).write_text(made_by, encoding="utf-8")
        if (before / WEIGHTS).is_file():
            (folder / BEFORE).mkdir()
            for name in (WEIGHTS, VOCABULARY, CHECKSUMS):
                (folder / BEFORE / name).write_bytes((before / name).read_bytes())


def begin(model: nn.Module, vocabulary: Path, place: Path) -> WarmStart | None:
    """Take over what fits from the last training; None where there is none.

    Args:
        model: Changed in place.
        vocabulary: ``items.csv`` of the data to train on.
        place: See `source`.

    Raises:
        ValueError: what is kept there can't be read.
    """
    if not (place / WEIGHTS).is_file():
        return None
    try:
        for name, sha256 in json.loads((place / CHECKSUMS).read_text(encoding="utf-8")).items():
            if sha256_of(place / name) != sha256:
                raise ValueError(f"{name} was changed or damaged")
        old = load_file(place / WEIGHTS)
        known = {raw: row for row, raw in enumerate(read_vocabulary(place / VOCABULARY), start=1)}
    except Exception as error:
        raise ValueError(
            f"{place} can't be read ({error}); remove it to train from scratch, or set "
            "train.shared.warm_start to false."
        ) from error
    items = read_vocabulary(vocabulary)
    now = torch.tensor([row for row, raw in enumerate(items, start=1) if raw in known])
    before = torch.tensor([known[raw] for raw in items if raw in known])
    kept = 0
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            kept += _take_over(name, tensor, old.get(name), now, before)
    total = len(model.state_dict())
    return WarmStart(len(now), len(items) - len(now), kept, total - kept)


def _take_over(name: str, tensor: Tensor, old: Tensor | None, now: Tensor, before: Tensor) -> bool:
    """Copy one tensor where it fits."""
    if old is None:
        return False
    if name in ITEM_TENSORS and old.shape[1:] == tensor.shape[1:]:
        tensor[now] = old[before].to(tensor)
        return True
    if old.shape != tensor.shape:
        return False
    tensor.copy_(old)
    return True


def read_vocabulary(path: Path) -> Sequence[str]:
    """Raw ids of items 1, 2, ..., from an ``items.csv``."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["raw_id"] for row in sorted(rows, key=lambda row: int(row["item_id"]))]
