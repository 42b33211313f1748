from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tasks.baselines.model_files import ModelFilesError, read_model_files, write_model_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_model_files(tmp_path, "toy", {"weights": {"a": 0.1}}, {"x": np.arange(6.0)[::2]})
    return tmp_path


def test_fields_and_arrays_come_back_exactly(folder: Path) -> None:
    fields, arrays = read_model_files(folder, "toy")
    assert fields["weights"] == {"a": 0.1}
    assert arrays["x"].tolist() == [0.0, 2.0, 4.0]
    assert arrays["x"].dtype == np.float64


def test_another_model_is_refused(folder: Path) -> None:
    with pytest.raises(ModelFilesError, match="holds model 'toy' in format version 1"):
        read_model_files(folder, "gru")


def test_another_format_version_is_refused(folder: Path) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 2}))
    with pytest.raises(ModelFilesError, match="format version 2"):
        read_model_files(folder, "toy")


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_missing_and_damaged_files_are_named(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelFilesError, match="can't be read"):
        read_model_files(folder, "toy")
    (folder / name).unlink()
    with pytest.raises(ModelFilesError, match=f"{name} does not exist"):
        read_model_files(folder, "toy")


def test_values_json_has_no_word_for_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_model_files(tmp_path, "toy", {"loss": float("nan")}, {"x": np.zeros(1)})
