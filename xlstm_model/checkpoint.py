"""Save and load models: weights as safetensors, settings and format version as JSON, no pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn

from xlstm_model.dropin import XLSTM
from xlstm_model.language_model import XLSTMLanguageModel
from xlstm_model.recommender import SequenceRecommender
from xlstm_model.stack import XLSTMStack

FORMAT_VERSION = 1
"""Version of the folder's layout; a reader takes this one and older ones."""

SETTINGS_FILE = "model.json"
WEIGHTS_FILE = "model.safetensors"

MODEL_TYPES: dict[str, Callable[..., nn.Module]] = {
    "SequenceRecommender": SequenceRecommender,
    "XLSTM": XLSTM,
    "XLSTMLanguageModel": XLSTMLanguageModel,
    "XLSTMStack": XLSTMStack,
}
"""Models this library can build from their settings."""


def save_checkpoint(model: nn.Module, folder: str | os.PathLike[str]) -> None:
    """Write a model's settings and weights, each file complete or not at all.

    Args:
        model: Has ``settings``, a dict of plain values with its class name under ``type`` and the
            constructor's arguments; every model of this library does.
        folder: Made if absent; ``model.json`` and ``model.safetensors`` in it are replaced.

    Raises:
        TypeError: If the model has no settings, or they are not plain values.

    >>> save_checkpoint(nn.Linear(1, 1), "anywhere")
    Traceback (most recent call last):
    ...
    TypeError: Linear has no settings dict with a 'type'; expected one, to build it again...
    """
    settings = getattr(model, "settings", None)
    if not isinstance(settings, dict) or "type" not in settings:
        raise TypeError(
            f"{type(model).__name__} has no settings dict with a 'type'; expected one, to build it "
            "again. Give the model a settings attribute with its constructor's arguments."
        )
    header = {"format": "xlstm_model", "format_version": FORMAT_VERSION, "settings": settings}
    text = json.dumps(header, indent=2) + "\n"
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: t.detach().contiguous().clone() for name, t in model.state_dict().items()}
    save_file(weights, folder / f"{WEIGHTS_FILE}.new")
    (folder / f"{SETTINGS_FILE}.new").write_text(text, encoding="utf-8")
    for name in (WEIGHTS_FILE, SETTINGS_FILE):
        os.replace(folder / f"{name}.new", folder / name)


def load_checkpoint(
    folder: str | os.PathLike[str],
    *,
    types: Mapping[str, Callable[..., nn.Module]] | None = None,
) -> nn.Module:
    """Build the model a checkpoint describes and fill it with its weights, on the CPU.

    Args:
        folder: Written by ``save_checkpoint``.
        types: Further classes by the name under ``type``, for sequence models of one's own.

    Returns:
        The model in evaluation mode, in the dtype it was saved in.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the format is newer than this library, the type unknown, or the weights do
            not fit the settings.

    >>> import tempfile
    >>> import torch
    >>> model = XLSTMStack(8, "ms", num_heads=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_checkpoint(model, folder)
    ...     again = load_checkpoint(folder)
    >>> x = torch.randn(1, 3, 8)
    >>> torch.equal(model(x)[0], again(x)[0])
    True
    """
    folder = Path(folder)
    header = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
    version = header.get("format_version")
    if header.get("format") != "xlstm_model" or not isinstance(version, int):
        raise ValueError(
            f"{folder / SETTINGS_FILE} is not a model of this library; expected "
            "'format': 'xlstm_model' and a format_version. Point to a folder save_checkpoint wrote."
        )
    if version > FORMAT_VERSION:
        raise ValueError(
            f"format_version of {folder} is {version}; expected at most {FORMAT_VERSION}. Update "
            "this library, or save the model again with this version."
        )
    model = build_model(header["settings"], types=types)
    weights = load_file(folder / WEIGHTS_FILE)
    dtype = next((t.dtype for t in weights.values() if t.is_floating_point()), None)
    try:
        model.to(dtype).load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"the weights in {folder} do not fit its settings: {error}. The folder's two files "
            "come from different models; copy both again."
        ) from error
    return model.eval()


def build_model(
    settings: Mapping[str, Any],
    *,
    types: Mapping[str, Callable[..., nn.Module]] | None = None,
) -> nn.Module:
    """Build a model, untrained, from its settings; nested settings become nested models.

    Args:
        settings: ``type`` and the constructor's arguments.
        types: Further classes by name.

    Raises:
        ValueError: If the type is unknown.

    >>> build_model({"type": "XLSTMStack", "embedding_dim": 8, "num_heads": 2}).pattern
    'msm'
    """
    known = MODEL_TYPES | dict(types or {})
    name = settings.get("type")
    if name not in known:
        raise ValueError(
            f"type is {name!r}; expected one of {', '.join(sorted(known))}. Pass its class in "
            "types={'...': ...}."
        )
    arguments = {
        key: build_model(value, types=types)
        if isinstance(value, Mapping) and "type" in value
        else value
        for key, value in settings.items()
        if key != "type"
    }
    return known[name](**arguments)
