"""Models on disk: readable settings in model.json, arrays in model.safetensors, no pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

FORMAT_VERSION = 1
FIELDS_FILE = "model.json"
ARRAYS_FILE = "model.safetensors"


class ModelFilesError(ValueError):
    """A model folder is missing, incomplete, damaged, or holds another model or version."""


def write_model_files(
    folder: Path, name: str, fields: dict[str, Any], arrays: dict[str, np.ndarray]
) -> None:
    """Write a model's fields and arrays into `folder`, created where missing.

    Args:
        folder: usually artifacts/models/<model>/seed_<s>.
        name: the model's name, checked on reading.
        fields: values JSON can hold.
        arrays: at least one array.
    """
    folder.mkdir(parents=True, exist_ok=True)
    contiguous = {key: np.ascontiguousarray(value) for key, value in arrays.items()}
    save_file(contiguous, folder / ARRAYS_FILE)
    document = {"format_version": FORMAT_VERSION, "name": name, **fields}
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    (folder / FIELDS_FILE).write_text(text, encoding="utf-8")


def read_model_files(folder: Path, name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read what `write_model_files` wrote.

    Returns:
        (fields, arrays).

    Raises:
        ModelFilesError: files missing or damaged, or of another model or format version.
    """
    fields_path, arrays_path = folder / FIELDS_FILE, folder / ARRAYS_FILE
    for path in (fields_path, arrays_path):
        if not path.is_file():
            raise ModelFilesError(f"{path} does not exist. Run the train stage for {name!r}.")
    try:
        fields = json.loads(fields_path.read_text(encoding="utf-8"))
        arrays = load_file(arrays_path)
    except (json.JSONDecodeError, SafetensorError) as error:
        raise ModelFilesError(
            f"the model in {folder} can't be read ({error}). Run the train stage again."
        ) from error
    found = (fields.get("name"), fields.get("format_version"))
    if found != (name, FORMAT_VERSION):
        raise ModelFilesError(
            f"{fields_path} holds model {found[0]!r} in format version {found[1]!r}; expected "
            f"{name!r} in version {FORMAT_VERSION}. Load it with its own class, or train again."
        )
    return fields, arrays
