"""The logged model loads with `mlflow.pyfunc` and recommends by raw item id."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.settings import Settings
from tests.tracking.conftest import runs, train


@pytest.fixture
def logged(settings: Settings, workspace: Path, client: Any) -> Path:
    """The folder MLflow keeps the model of a training in."""
    train(settings, workspace, "gru", favourite=3)
    (output,) = runs(client)["gru seed 0"].outputs.model_outputs
    location = client.get_logged_model(output.model_id).artifact_location
    return Path(location.removeprefix("file://"))


@pytest.fixture
def loaded(logged: Path) -> Any:
    """That model, as a user loads it."""
    import mlflow.pyfunc

    return mlflow.pyfunc.load_model(str(logged))


def test_it_recommends_the_best_items_of_each_history(loaded: Any) -> None:
    histories = pd.DataFrame({"history": [["a", "b"], [], ["never seen"]]})

    found = loaded.predict(histories, params={"top_k": 2})

    assert list(found.columns) == ["items", "scores", "answered_by", "unknown"]
    assert [items[0] for items in found["items"]] == ["c", "b", "b"]
    assert list(found["answered_by"]) == ["popularity"] * 3
    assert list(found["unknown"]) == [[], [], ["never seen"]]
    assert found["scores"][1] == [3.0, 2.0], "training events of b and d"
    assert [len(items) for items in found["items"]] == [2, 2, 2]
    assert all(scores == sorted(scores, reverse=True) for scores in found["scores"])


def test_items_of_the_history_can_be_left_out(loaded: Any) -> None:
    found = loaded.predict(
        pd.DataFrame({"history": [["c", "a"]]}), params={"top_k": 4, "filter_seen": True}
    )

    assert set(found["items"][0]) == {"b", "d"}


def test_signature_example_and_requirements_are_kept(loaded: Any, logged: Path) -> None:
    metadata = loaded.metadata
    assert metadata.signature.inputs.input_names() == ["history", "times"]
    outputs = ["items", "scores", "answered_by", "unknown"]
    assert metadata.signature.outputs.input_names() == outputs
    assert loaded.input_example["history"][0] == ["a", "b", "c"]
    pinned = (logged / "requirements.txt").read_text().split()
    assert {line.partition("==")[0] for line in pinned} >= {"torch", "safetensors", "numpy"}
    assert not list(logged.rglob("*.pkl"))


def test_a_wrong_input_is_refused_by_the_signature(loaded: Any) -> None:
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match="history"):
        loaded.predict(pd.DataFrame({"items": [["a"]]}))
