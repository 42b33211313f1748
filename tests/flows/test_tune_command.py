"""``assay tune``: what a search leaves in MLflow, and that it goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.cli import _guarded, app
from flows.tune_command import STORAGE, make_search, tune
from tasks import tracking
from tasks.data import fetch_stage, prepare_stage
from tasks.settings import load_settings, settings_from_dict, write_params
from tasks.tracking import delivery
from tasks.tuning.study import open_study
from tests.tracking.conftest import empty_store  # noqa: F401 - a fixture

SETTINGS = {
    "experiment": {"name": "tiny", "models": ["popularity", "gru"]},
    "data": {
        "source": "synthetic",
        "synthetic": {"num_users": 40, "num_items": 20, "min_length": 5, "max_length": 9},
    },
    "train": {"shared": {"max_epochs": 2, "max_seq_len": 8, "device": "cpu"}},
}


@pytest.fixture
def project(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch):  # noqa: F811
    """A project with prepared data and an MLflow store of its own."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".assay").mkdir()
    (tmp_path / ".assay" / "mlflow.db").write_bytes(empty_store.read_bytes())
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    settings = settings_from_dict(SETTINGS)
    write_params(settings, tmp_path / "params.yaml")
    fetch_stage.run(settings, tmp_path)
    prepare_stage.run(settings, tmp_path)
    yield tmp_path
    delivery.forget_store(tracking.store_uri(tmp_path))


def trials_in_mlflow(project: Path):
    """Runs of the searches by name, and the client."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking.store_uri(project))
    listed = client.search_runs([client.get_experiment_by_name("tiny tuning").experiment_id])
    return client, {run.info.run_name: run for run in listed}


def study_of(project: Path):
    settings = load_settings(project / "params.yaml")
    prepared = project / "data" / "prepared"
    return open_study(make_search(settings, prepared, project / STORAGE, (), 1), "gru")


@pytest.mark.long
def test_trials_are_logged_and_a_second_search_adds_what_is_missing(project: Path) -> None:
    tune(project, trials=1, as_json=True)
    study_of(project).ask()  # and killed

    tune(project, trials=2, as_json=True)

    client, runs = trials_in_mlflow(project)
    searches = [run for name, run in runs.items() if name.startswith("search ")]
    trials = {name: run for name, run in runs.items() if name.startswith("gru trial")}
    # Trial 1 is the one that the killed search left; its settings were never tried.
    assert sorted(trials) == ["gru trial 0", "gru trial 2"]
    assert len(searches) in (1, 2)  # both may have begun within one second
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    study = study_of(project)
    for name, run in trials.items():
        trial = study.trials[int(name.rpartition(" ")[2])]
        assert run.data.tags["assay.outcome"] == "complete"
        assert run.data.params == {key: str(value) for key, value in trial.params.items()}
        history = client.get_metric_history(run.info.run_id, "val/ndcg_at_10")
        points = [(point.step, point.value) for point in history]
        assert points == sorted(trial.intermediate_values.items())
        assert run.data.metrics["best/val/ndcg_at_10"] == trial.value
    assert delivery.count_waiting(project) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--device", "cuda:99"], "--device is 'cuda:99'; expected one of auto, cpu"),
        (["--device", "gpu"], "--device is 'gpu'; expected one of auto, cpu"),
        (["--save", "no/such/folder/best.yaml"], "its folder does not exist. Create it first."),
        (["--model", "popularity"], "have nothing to tune"),
    ],
    ids=["device", "no_device", "save", "model"],
)
def test_what_can_not_work_is_said_before_a_trial_runs(project: Path, words, said, capsys) -> None:
    assert _guarded(lambda: app(["tune", "--trials", "1", *words], standalone_mode=False)) == 2

    captured = capsys.readouterr()
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_a_file_of_something_else_ends_with_a_message(project: Path, capsys) -> None:
    (project / STORAGE).parent.mkdir(parents=True)
    (project / STORAGE).write_text(json.dumps({"op_code": 4, "worker_id": "w"}) + "\n")

    assert _guarded(lambda: app(["tune", "--trials", "1"], standalone_mode=False)) == 2

    said = capsys.readouterr().err
    assert "journal.log can't be read" in said
    assert "begin the search anew" in said
    assert "Traceback" not in said
