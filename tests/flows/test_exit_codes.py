"""The codes the command ends with, for scripts and continuous integration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows import cli, diagnose_command
from flows.run_logs import ExperimentFailedError
from tasks.data import fetch_stage, prepare_stage
from tasks.diagnostics import diagnose_stage
from tasks.settings import settings_from_dict, write_params

SETTINGS = {
    "experiment": {"models": ["gru"]},
    "data": {
        "source": "synthetic",
        "synthetic": {"num_users": 60, "num_items": 30, "min_length": 6, "max_length": 16},
    },
    "train": {
        "shared": {"max_epochs": 1, "max_seq_len": 12, "batch_size": 16},
        "gru": {"embedding_dim": 8},
    },
    "diagnose": {"model": "gru"},
    "tracking": {"enabled": False},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with prepared data."""
    folder = tmp_path_factory.mktemp("project")
    settings = settings_from_dict(SETTINGS)
    write_params(settings, folder / "params.yaml")
    (folder / "dvc.yaml").write_text("stages: {}\n")
    fetch_stage.run(settings, folder)
    prepare_stage.run(settings, folder)
    return folder


def without_clipping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plant a fault: the program says that it clips gradients and does not."""
    healthy = diagnose_stage.subject_of

    def subject_of(*arguments):
        subject = healthy(*arguments)

        def step(loss, model, optimizer, batch):
            model.train()
            optimizer.zero_grad()
            value = loss(model, batch)
            value.backward()
            optimizer.step()
            return value.detach()

        return subject.replace(train_step=step)

    monkeypatch.setattr(diagnose_stage, "subject_of", subject_of)


@pytest.mark.parametrize(("fail_on", "code"), [("never", 0), ("suspect", 1), ("faulty", 1)])
def test_diagnose_fails_on_the_verdict_asked_for(
    project: Path, monkeypatch: pytest.MonkeyPatch, fail_on: str, code: int, capsys
) -> None:
    without_clipping(monkeypatch)

    assert diagnose_command.diagnose_run(project, "", False, fail_on, True) == code

    assert json.loads(capsys.readouterr().out)["question"] == "clipping_works"


def test_diagnose_of_a_healthy_program_passes(project: Path, capsys) -> None:
    assert diagnose_command.diagnose_run(project, "", False, "suspect", True) == 0
    assert json.loads(capsys.readouterr().out)["schema_version"] == 1


def test_one_question_alone_leaves_the_findings_of_the_run(project: Path, capsys) -> None:
    findings = project / "artifacts" / "diagnosis" / "findings.json"
    before = findings.read_bytes() if findings.exists() else b""

    assert diagnose_command.diagnose_run(project, "", False, "", True, ["g16", "X3"]) == 0

    answers = json.loads(capsys.readouterr().out)["findings"]
    assert [answer["number"] for answer in answers] == ["G16", "X3"]
    assert (findings.read_bytes() if findings.exists() else b"") == before
    with pytest.raises(ValueError, match=r"no question 'g26'.*Did you mean g"):
        diagnose_command.diagnose_run(project, "", False, "", True, ["G26"])


def test_what_is_open_names_the_command_that_settles_it(project: Path, capsys) -> None:
    assert diagnose_command.diagnose_run(project, "", False, "", False, ["G1", "G16"]) == 0

    printed = capsys.readouterr().out
    assert "G1 is open: run `assay diagnose --deep --only G1`" in printed
    assert "G16 is open" not in printed
    assert "Cheapest next test: run `assay diagnose --deep`" in printed


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("no such column"), 2),
        (OSError("disk full"), 1),
        (ExperimentFailedError("a stage failed"), 1),
        (ExperimentFailedError("a stage refused its settings", exit_code=2), 2),
        (ExperimentFailedError("a fault was found", exit_code=3), 3),
    ],
    ids=["bad-value", "no-disk", "stage-failed", "stage-refused", "fault-found"],
)
def test_errors_end_the_command_with_their_code(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        raise error

    assert cli._guarded(command) == code
    assert str(error) in capsys.readouterr().err
