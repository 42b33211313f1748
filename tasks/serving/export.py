"""A trained network as one file that any machine with torch can run, without this project.

The program takes histories of any number and length and returns the scores of the model it was
made from. Inside, it works on the last `max_len` events of each history, as the model does.
"""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from tasks.serving.recommend import Scorer, reads_times
from tasks.serving.service import Service
from xlstm_model import SequenceRecommender

PROGRAM_FILE = "scores.pt2"
VOCABULARY_FILE = "vocabulary.json"
ABOUT_FILE = "export.json"


class ScoringProgram(nn.Module):
    """What is exported: item ids and lengths in, scores of the next item out.

    Args:
        network: the trained network.
        max_len: most recent events it reads.

    >>> from xlstm_model import XLSTMStack
    >>> network = SequenceRecommender(5, XLSTMStack(8, "m", num_heads=2), 8)
    >>> program = ScoringProgram(network, max_len=3)
    >>> program(torch.tensor([[1, 2, 3, 4, 5]]), torch.tensor([5])).shape
    torch.Size([1, 6])
    """

    def __init__(self, network: SequenceRecommender, max_len: int) -> None:
        super().__init__()
        self.network, self.max_len = network, max_len

    def forward(self, item_ids: Tensor, lengths: Tensor, times: Tensor | None = None) -> Tensor:
        """Scores (B, V) of item_ids int64 (B, S), right-padded, and lengths int64 (B,).

        S ≥ 1; ``times`` int64 (B, S) in microseconds where the model reads them.
        """
        places = torch.arange(self.max_len, device=item_ids.device)
        first = (lengths - self.max_len).clamp(min=0)[:, None]
        index = (first + places).clamp(max=item_ids.shape[1] - 1)
        kept = lengths.clamp(max=self.max_len)
        window = item_ids.gather(1, index) * (places < kept[:, None])
        shown = None if times is None else times.gather(1, index)
        return self.network.last_scores(window, kept, shown)


def export_program(model: Scorer) -> torch.export.ExportedProgram:
    """Trace a trained network for any batch size and length.

    Raises:
        ValueError: the model is no network: counts are exported best as the tables they are.
    """
    network = getattr(model, "model", None)
    if not isinstance(network, SequenceRecommender):
        raise ValueError(
            f"{model.name} has no network to export; expected gru, lstm, sasrec or xlstm. "
            "Its model.safetensors holds the counts themselves."
        )
    frozen = copy.deepcopy(network).eval().requires_grad_(False)
    program = ScoringProgram(frozen, model.max_seq_len)  # type: ignore[attr-defined]
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length")
    item_ids = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0]])
    inputs: list[Tensor] = [item_ids, torch.tensor([3, 2, 1, 0])]
    shapes: list[dict[int, object]] = [{0: batch, 1: length}, {0: batch}]
    if reads_times(model):
        inputs.append(torch.arange(12).reshape(4, 3) * 1_000_000)
        shapes.append({0: batch, 1: length})
    with torch.no_grad(), warnings.catch_warnings():
        # torch's own while tracing: old spellings of its own, and the weights of nn.LSTM and
        # nn.GRU, which it lists twice.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", message="The tensor attribute")
        return torch.export.export(program, tuple(inputs), dynamic_shapes=tuple(shapes))


def save_export(service: Service, folder: Path) -> Path:
    """Write the program, the vocabulary and a description into a folder.

    Args:
        service: the model to export.
        folder: created where missing.

    Returns:
        The program's file.

    Raises:
        ValueError: the model is no network.
    """
    program = export_program(service.model)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / PROGRAM_FILE
    torch.export.save(program, str(path))
    catalogue = service.catalogue
    raw_ids = ["", *(catalogue.raw_id(item) for item in range(1, catalogue.num_items + 1))]
    _write(folder / VOCABULARY_FILE, raw_ids)
    inputs = {
        "item_ids": "int64 (batch, length): columns of the vocabulary, right-padded with 0",
        "lengths": "int64 (batch,): events per history",
    }
    if reads_times(service.model):
        inputs["times"] = "int64 (batch, length): microseconds since 1970"
    about = {
        "model": service.model.name,
        "max_len": service.max_len,
        "inputs": inputs,
        "output": "float32 (batch, columns of the vocabulary): scores; column 0 is -inf",
        "torch": torch.__version__,
    }
    _write(folder / ABOUT_FILE, about)
    return path


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
