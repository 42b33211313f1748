"""Every model of the pipeline: how it is built, trained, saved and found again.

`MODELS` is the one list. Count models are fitted in one pass; neural models are a core inside a
`SequenceRecommender`, trained by `tasks.training.loop`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from tasks.baselines.contract import Recommender
from tasks.baselines.gru import GRUCore
from tasks.baselines.lstm import LSTMCore
from tasks.baselines.model_files import FIELDS_FILE, read_model_files, write_model_files
from tasks.baselines.sasrec import SASRecCore
from xlstm_model import SequenceModel, SequenceRecommender, XLSTMStack, lengths_to_mask

Settings = Mapping[str, Any]
"""One model's section of the settings, as plain values."""


@dataclass(frozen=True)
class CountModel:
    """A model fitted by counting, or by a convex fit on counts.

    Attributes:
        name: key in the settings.
        import_class: returns its class; imported where used, as some need large libraries.
        fit_settings: settings its ``fit`` takes.
    """

    name: str
    import_class: Callable[[], type]
    fit_settings: tuple[str, ...] = ()

    def fit(
        self,
        items: np.ndarray,
        offsets: np.ndarray,
        num_items: int,
        settings: Settings,
        seed: int = 0,
    ) -> Recommender:
        """Fits it on packed training sequences."""
        chosen = {key: settings[key] for key in self.fit_settings}
        return self.import_class().fit(items, offsets, num_items, seed=seed, **chosen)

    def load(self, folder: Path) -> Recommender:
        """Reads what it saved."""
        return self.import_class().load(folder)


@dataclass(frozen=True)
class NeuralModel:
    """A sequence model around which a recommender is built.

    Attributes:
        name: key in the settings.
        build_core: (settings, max_seq_len) -> sequence model.
    """

    name: str
    build_core: Callable[[Settings, int], SequenceModel]

    def build(
        self, num_items: int, settings: Settings, *, max_seq_len: int, seed: int = 0
    ) -> NeuralRecommender:
        """Makes it with new weights, which depend on the seed alone.

        Args:
            num_items: items in the catalogue.
            settings: its section of the settings.
            max_seq_len: most recent events it reads.
            seed: seed of the weights; no global generator is touched.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = SequenceRecommender(
                num_items,
                self.build_core(settings, max_seq_len),
                settings["embedding_dim"],
                tied=settings["tied"],
                dropout=settings["dropout"],
                time_gaps=settings.get("time_gaps", False),
                repeat_window=max_seq_len if settings.get("repeat_bias", False) else 0,
            )
        return NeuralRecommender(self.name, model.eval(), dict(settings), max_seq_len)

    def load(self, folder: Path) -> Recommender:
        """Reads what it saved."""
        return NeuralRecommender.load(folder)


class NeuralRecommender:
    """A trained `SequenceRecommender` behind the contract all models keep.

    Args:
        name: the model's name in `MODELS`.
        model: the network.
        settings: what `NeuralModel.build` made it from.
        max_seq_len: most recent events it reads of a history.
    """

    def __init__(
        self, name: str, model: SequenceRecommender, settings: Settings, max_seq_len: int
    ) -> None:
        self.name = name
        self.model = model
        self.settings = dict(settings)
        self.max_seq_len = max_seq_len
        self.num_items = model.num_items

    @property
    def num_parameters(self) -> int:
        """Trainable values; a tied matrix counts once."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def score(self, item_ids: Tensor, lengths: Tensor, times: Tensor | None = None) -> Tensor:
        """Scores every item as the next event; see `Recommender.score`.

        Only the last ``max_seq_len`` events of each history are read.
        """
        device = next(self.model.parameters()).device
        item_ids, lengths = item_ids.to(device), lengths.to(device)
        times = None if times is None else times.to(device)
        if item_ids.shape[1] == 0:  # nobody has a history; one padded column stands for that
            item_ids = item_ids.new_zeros(len(item_ids), 1)
            times = None if times is None else times.new_zeros(len(item_ids), 1)
        if item_ids.shape[1] > self.max_seq_len:
            first = (lengths - self.max_seq_len).clamp(min=0)[:, None]
            index = first + torch.arange(self.max_seq_len, device=device)
            item_ids = item_ids.gather(1, index)
            times = None if times is None else times.gather(1, index)
            lengths = lengths.clamp(max=self.max_seq_len)
        mask = lengths_to_mask(lengths, item_ids.shape[1])
        self.model.eval()
        with torch.inference_mode():
            return self.model.last_scores(item_ids.masked_fill(~mask, 0), lengths, times).float()

    def save(self, folder: Path) -> None:
        """Writes model.json and model.safetensors; see `Recommender.save`."""
        fields = {
            "num_items": self.num_items,
            "max_seq_len": self.max_seq_len,
            "num_parameters": self.num_parameters,
            "settings": self.settings,
        }
        arrays = {n: t.detach().cpu().numpy() for n, t in self.model.state_dict().items()}
        write_model_files(folder, self.name, fields, arrays)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads what `save` wrote, on the CPU; see `Recommender.load`.

        Raises:
            ValueError: the folder holds a model that counts.
        """
        name = _saved_name(folder)
        fields, arrays = read_model_files(folder, name)
        spec = model_spec(name)
        if not isinstance(spec, NeuralModel):
            raise ValueError(f"{folder} holds {name!r}; expected a neural model. Load it by name.")
        recommender = spec.build(
            fields["num_items"], fields["settings"], max_seq_len=fields["max_seq_len"]
        )
        weights = {key: torch.from_numpy(array) for key, array in arrays.items()}
        recommender.model.load_state_dict(weights)
        return recommender


def _popularity() -> type:
    from tasks.baselines.popularity import PopularityRecommender

    return PopularityRecommender


def _transitions() -> type:
    from tasks.baselines.transitions import TransitionRecommender

    return TransitionRecommender


def _logistic_regression() -> type:
    from tasks.baselines.logistic_regression import LogisticRegressionRecommender

    return LogisticRegressionRecommender


def _gru(settings: Settings, max_seq_len: int) -> GRUCore:
    return GRUCore(
        settings["embedding_dim"], num_layers=settings["num_layers"], dropout=settings["dropout"]
    )


def _lstm(settings: Settings, max_seq_len: int) -> LSTMCore:
    return LSTMCore(
        settings["embedding_dim"], num_layers=settings["num_layers"], dropout=settings["dropout"]
    )


def _sasrec(settings: Settings, max_seq_len: int) -> SASRecCore:
    return SASRecCore(
        settings["embedding_dim"],
        num_layers=settings["num_layers"],
        num_heads=settings["num_heads"],
        max_seq_len=max_seq_len,
        dropout=settings["dropout"],
    )


def _xlstm(settings: Settings, max_seq_len: int) -> XLSTMStack:
    return XLSTMStack(
        settings["embedding_dim"],
        settings["pattern"] * settings["num_layers"],
        num_heads=settings["num_heads"],
        conv_kernel=settings["conv_kernel"],
        slstm_conv_gates=settings["slstm_conv_gates"],
        chunk_size=settings["chunk_size"],
        dropout=settings["dropout"],
    )


MODELS: tuple[CountModel | NeuralModel, ...] = (
    CountModel("popularity", _popularity),
    CountModel("transitions", _transitions, fit_settings=("smoothing",)),
    CountModel(
        "logistic_regression", _logistic_regression, fit_settings=("inverse_regularization",)
    ),
    NeuralModel("gru", _gru),
    NeuralModel("lstm", _lstm),
    NeuralModel("sasrec", _sasrec),
    NeuralModel("xlstm", _xlstm),
)
"""Every model, cheapest first."""


def model_spec(name: str) -> CountModel | NeuralModel:
    """The entry of `MODELS` with that name.

    Raises:
        ValueError: there is none.

    >>> model_spec("gru").name
    'gru'
    """
    for spec in MODELS:
        if spec.name == name:
            return spec
    raise ValueError(f"model is {name!r}; expected one of {', '.join(s.name for s in MODELS)}.")


def load_recommender(folder: Path) -> Recommender:
    """Reads a trained model of any kind.

    Args:
        folder: where it was saved, usually artifacts/models/<model>/seed_<s>.

    Raises:
        ModelFilesError: files are missing or damaged.
        ValueError: the model is none of `MODELS`.
    """
    return model_spec(_saved_name(folder)).load(folder)


def _saved_name(folder: Path) -> str:
    """Name in model.json; "" where it can't be read, which `read_model_files` then explains."""
    try:
        return str(json.loads((folder / FIELDS_FILE).read_text(encoding="utf-8"))["name"])
    except (OSError, ValueError, KeyError, TypeError):
        read_model_files(folder, "model")
        raise
