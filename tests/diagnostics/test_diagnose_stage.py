"""The stage on a real workspace: before training, after it, and with a failing question."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from tasks.data import fetch_stage, prepare_stage
from tasks.diagnostics import diagnose_stage
from tasks.diagnostics.finding import Finding, Limit, exact
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import DiagnosisError
from tasks.diagnostics.question import Question
from tasks.diagnostics.questions import QUESTIONS
from tasks.settings import Settings, settings_from_dict
from tasks.training import train_stage


@pytest.fixture(scope="module")
def settings() -> Settings:
    return settings_from_dict(
        {
            "experiment": {"models": ["gru", "xlstm"]},
            "data": {
                "source": "synthetic",
                "synthetic": {"num_users": 60, "num_items": 30, "min_length": 6, "max_length": 16},
            },
            "train": {
                "shared": {"max_epochs": 1, "max_seq_len": 12, "batch_size": 16},
                "gru": {"embedding_dim": 8},
            },
            "diagnose": {"model": "gru", "fail_on": "faulty"},
            "tracking": {"enabled": False},
        }
    )


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, settings: Settings) -> Path:
    folder = tmp_path_factory.mktemp("workspace")
    fetch_stage.run(settings, folder)
    prepare_stage.run(settings, folder)
    return folder


def read(workspace: Path) -> dict:
    return json.loads((workspace / "artifacts" / "diagnosis" / "findings.json").read_text())


def test_before_and_after_training(settings: Settings, workspace: Path) -> None:
    told = []
    before = diagnose_stage.run(settings, workspace, on_finding=told.append)
    assert len(told) == len(QUESTIONS)
    assert before["exit_code"] == 0
    assert read(workspace)["mode"] == "exact"
    train_stage.run(settings, workspace, model="gru")
    after = diagnose_stage.run(settings, workspace)
    document = read(workspace)
    assert document["mode"] == "after_training"
    assert document["headline"] == after["headline"]
    assert document["schema_version"] == 1
    assert [f["number"] for f in document["findings"] if f["verdict"] == "faulty"] == []
    assert document["errors"] == {}


def test_the_distance_to_simple_models_is_told(settings: Settings, workspace: Path) -> None:
    folder = workspace / "artifacts" / "evaluation"
    folder.mkdir(parents=True)
    metrics = {"gru": {"test/ndcg_at_10": 0.3}, "transitions": {"test/ndcg_at_10": 0.2}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "comparison.json").write_text(json.dumps({"best_possible": {"test/ndcg_at_10": 0.4}}))
    headline = diagnose_stage.run(settings, workspace, mode="exact")["headline"]
    for text in ("gru reaches NDCG@10 0.3000", "(transitions) 0.2000", "0.4000"):
        assert text in headline


def test_a_bug_of_a_question_fails_the_stage_and_keeps_the_rest(
    settings: Settings, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(probe: object) -> None:
        raise ZeroDivisionError

    exact = [question for question in QUESTIONS if question.mode == "exact"]
    broken = dataclasses.replace(exact[0], measure=bug)
    monkeypatch.setattr(diagnose_stage, "QUESTIONS", (broken, *exact[1:4]))
    with pytest.raises(DiagnosisError, match=broken.id):
        diagnose_stage.run(settings, workspace, mode="exact")
    document = read(workspace)
    assert "ZeroDivisionError" in document["errors"][broken.id]
    assert len(document["findings"]) == 3


@pytest.mark.parametrize(
    ("choice", "stages", "modes"),
    [
        ("intervene", ("symptom",), ["after_training", "deep"]),
        ("report", ("symptom",), ["after_training"]),
        ("intervene", ("symptom", "align"), ["after_training"]),
    ],
    ids=["a-symptom-alone", "told-only-to-report", "a-cause-is-known"],
)
def test_a_symptom_without_a_cause_calls_for_interventions(
    settings: Settings,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    choice: str,
    stages: tuple[str, ...],
    modes: list[str],
) -> None:
    """Questions that report what they are told to stand for a training without skill."""
    asked = []

    def made(question: Question, stage: str) -> Question:
        def measure(probe: Probe) -> None:
            asked.append(probe.mode)

        def judge(evidence: None, limits: object) -> Finding:
            return question.finding(None, exact("skill", 1.0, Limit(0.0, "none"), stage))

        return dataclasses.replace(question, mode="exact", measure=measure, judge=judge)

    questions = tuple(made(QUESTIONS[n], stage) for n, stage in enumerate(stages))
    chosen = settings.diagnose.model_copy(update={"on_symptom": choice})
    train_stage.run(settings, workspace, model="gru")

    diagnose_stage.answer_questions(
        settings.model_copy(update={"diagnose": chosen}), workspace, questions
    )

    assert asked == [mode for mode in modes for _ in stages]
