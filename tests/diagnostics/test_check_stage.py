"""The stage ``check``: healthy programs may train, a faulty one stops the run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from tasks import __main__ as command
from tasks.data import fetch_stage, prepare_stage
from tasks.diagnostics import check_stage
from tasks.diagnostics.engine import diagnose_findings
from tasks.diagnostics.finding import Limit, exact
from tasks.diagnostics.problems import DiagnosisError, FaultFoundError
from tasks.diagnostics.questions import QUESTIONS
from tasks.diagnostics.subject import Batch, Subject
from tasks.settings import Settings, settings_from_dict, write_params

EXACT = [question for question in QUESTIONS if question.mode == "exact"]


def make_settings(before_training: str = "stop", models: tuple[str, ...] = ("gru",)) -> Settings:
    return settings_from_dict(
        {
            "experiment": {"models": ["popularity", *models]},
            "data": {
                "source": "synthetic",
                "synthetic": {"num_users": 60, "num_items": 30, "min_length": 6, "max_length": 16},
            },
            "train": {
                "shared": {"max_epochs": 1, "max_seq_len": 12, "batch_size": 16},
                "gru": {"embedding_dim": 8},
            },
            "diagnose": {"before_training": before_training},
            "tracking": {"enabled": False},
        }
    )


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workspace")
    settings = make_settings()
    write_params(settings, folder / "params.yaml")
    fetch_stage.run(settings, folder)
    prepare_stage.run(settings, folder)
    return folder


@pytest.fixture
def leaking(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline's program with scores that see the next event."""
    healthy = check_stage.subject_of

    def subject_of(*arguments: Any) -> Subject:
        subject = healthy(*arguments)

        def logits(model: nn.Module, batch: Batch) -> Tensor:
            own = subject.logits(model, batch)
            return own + own.roll(-1, dims=1).nan_to_num(neginf=0.0)

        return subject.replace(logits=logits)

    monkeypatch.setattr(check_stage, "subject_of", subject_of)


def test_a_healthy_program_may_train(workspace: Path) -> None:
    result = check_stage.run(make_settings(), workspace)

    assert result["gru"].startswith("Nothing found")
    assert "popularity" not in result
    assert (workspace / check_stage.GATE_FILE).read_text() == check_stage.GATE
    document = json.loads((workspace / "artifacts/checks/findings/gru.json").read_text())
    assert document["mode"] == "exact"
    assert [f["question"] for f in document["findings"]] == [q.id for q in EXACT]
    assert document["counts"]["faulty"] == 0


def test_a_fault_stops_the_run_with_its_own_exit_code(
    workspace: Path, leaking: None, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(workspace)

    assert command.main(["check"]) == FaultFoundError.exit_code == 3

    said = capsys.readouterr().err
    for text in ("gru: G11 order_and_flow, stage causal", "Next step:", "before_training"):
        assert text in said
    assert "Traceback" not in said
    assert not (workspace / check_stage.GATE_FILE).exists()


@pytest.mark.parametrize("choice", ["warn", "off"])
def test_the_setting_decides_what_a_fault_does(workspace: Path, leaking: None, choice: str) -> None:
    result = check_stage.run(make_settings(choice), workspace)

    assert ("warning" in result) == (choice == "warn")
    assert (workspace / check_stage.GATE_FILE).read_text() == check_stage.GATE
    written = list((workspace / "artifacts/checks/findings").iterdir())
    assert len(written) == (choice == "warn")


def test_a_bug_of_a_question_opens_no_gate(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(probe: object) -> None:
        raise ZeroDivisionError

    broken = dataclasses.replace(EXACT[0], measure=bug)
    monkeypatch.setattr(check_stage, "QUESTIONS", (broken, EXACT[1]))

    with pytest.raises(DiagnosisError, match=broken.id):
        check_stage.run(make_settings(), workspace)

    assert not (workspace / check_stage.GATE_FILE).exists()


def test_what_models_share_is_said_once_and_long_lists_are_cut() -> None:
    findings = [
        question.finding(None, exact("rows", 5.0, Limit(0.0, "rows"), question.stages[0], "look"))
        for question in EXACT[:5]
    ]
    diagnosis = diagnose_findings("toy", "exact", findings)

    lines = check_stage.explain([("toy", diagnosis), ("other", diagnosis)]).splitlines()

    blamed = diagnosis.finding(diagnosis.question)
    first = f"  toy, other: {blamed.number} {blamed.question}, stage {blamed.stage}"
    assert lines[1].startswith(first)
    assert lines[2] == "    Next step: look"
    shown = [line for line in lines if line.startswith("  toy, other: ")]
    assert len(shown) == check_stage.MAX_NAMED
    told = "\n".join(lines)
    assert all(f"{finding.number}" in told for finding in findings)


@pytest.mark.parametrize("failing", [1, 2])
def test_what_fails_leaves_the_earlier_findings_and_no_gate(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    settings = make_settings(models=("gru", "lstm"))
    check_stage.run(settings, workspace)
    folder = workspace / "artifacts" / "checks"
    earlier = {path.name: path.read_bytes() for path in (folder / "findings").iterdir()}
    written = []

    def write(path: Path, *arguments: Any, **named: Any) -> None:
        written.append(path)
        if len(written) == failing:
            raise OSError(28, "No space left on device")
        path.write_text("half", encoding="utf-8")

    monkeypatch.setattr(check_stage, "write_document", write)
    with pytest.raises(OSError, match="No space left"):
        check_stage.run(settings, workspace)
    assert {path.name: path.read_bytes() for path in (folder / "findings").iterdir()} == earlier
    assert sorted(path.name for path in folder.iterdir()) == ["findings"]
