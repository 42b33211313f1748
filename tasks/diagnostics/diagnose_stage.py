"""The stage ``diagnose``: answers every question about a run and writes the findings."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tasks.data.prepare_stage import choose_reading, choose_recipe
from tasks.data.prepared import PreparedData
from tasks.data.raw_log import read_raw_log
from tasks.data.schema import split_valid
from tasks.data.storage import write_whole
from tasks.diagnostics.conclusion import calls_for_interventions, with_options
from tasks.diagnostics.engine import Diagnosis, exit_code, run_questions
from tasks.diagnostics.finding import Finding
from tasks.diagnostics.pipeline_log import load_prepared, log_from_frame
from tasks.diagnostics.pipeline_subject import pipeline_subject
from tasks.diagnostics.plots.write import measure_plots, write_plots
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import DiagnosisError
from tasks.diagnostics.question import Mode, Question
from tasks.diagnostics.questions import QUESTIONS
from tasks.diagnostics.subject import PreparedLog, RawLog, Subject
from tasks.diagnostics.workspace_records import describe_distance, read_trained
from tasks.settings import Settings

FINDINGS_FILE = "findings.json"
logger = logging.getLogger(__name__)


def run(
    settings: Settings,
    workspace: Path,
    *,
    mode: Mode | None = None,
    on_finding: Callable[[Finding], None] | None = None,
) -> dict[str, Any]:
    """Diagnose the model named in the settings; write ``artifacts/diagnosis/findings.json``.

    What the report draws of data and models is measured too, into ``artifacts/diagnosis/plots``.

    Args:
        settings: All settings.
        workspace: Folder with ``data/raw`` and ``data/prepared``, and with a trained model unless
            the mode is ``exact``.
        mode: What may be spent; by default everything that needs no training of its own, or with
            ``diagnose.deep`` those too. Without a trained model, ``exact``.
        on_finding: Told of each answer as it comes.

    Returns:
        Small values: headline, blamed stage, next test, counts per verdict, and the exit code that
        ``diagnose.fail_on`` asks for.

    Raises:
        DiagnosisError: A question failed by a bug of its own; the other findings are written.
    """
    try:
        probe, diagnosis = answer_questions(
            settings, workspace, QUESTIONS, mode=mode, on_finding=on_finding
        )
    except DiagnosisError as error:
        write_findings(workspace, error.diagnosis, errors=error.failures)
        raise
    if diagnosis.stage is None:
        distance = describe_distance(workspace, settings.diagnose.model)
        headline = f"{diagnosis.headline} {distance}".strip()
        diagnosis = dataclasses.replace(diagnosis, headline=headline)
    write_findings(workspace, diagnosis)
    write_plots(workspace, _plots(settings, workspace), probe)
    counts = {verdict: count for verdict, count in diagnosis.count().items() if count}
    return {
        "headline": diagnosis.headline,
        "stage": diagnosis.stage or "",
        "next_test": diagnosis.next_test,
        **counts,
        "exit_code": exit_code(diagnosis, settings.diagnose.fail_on),
    }


def answer_questions(
    settings: Settings,
    workspace: Path,
    questions: tuple[Question, ...],
    *,
    mode: Mode | None = None,
    on_finding: Callable[[Finding], None] | None = None,
) -> tuple[Probe, Diagnosis]:
    """Answer some questions about the model under test and write nothing.

    Where a symptom is all that is found after a training, all are asked again with the
    interventions that train models, unless ``diagnose.on_symptom`` says ``report``.

    Args:
        settings: All settings.
        workspace: As for `run`.
        questions: Which, in questionnaire order.
        mode: As for `run`.
        on_finding: As for `run`.

    Raises:
        DiagnosisError: A question failed by a bug of its own.
    """
    torch.set_num_threads(settings.train.shared.num_threads)
    subject = workspace_subject(settings, workspace)
    chosen = mode or _affordable(settings, subject)
    probe = Probe(subject, chosen, seed=settings.diagnose.seeds[0])
    diagnosis = run_questions(probe, questions, on_finding=on_finding)
    intervene = settings.diagnose.on_symptom == "intervene" and chosen == "after_training"
    if intervene and calls_for_interventions(diagnosis):
        logger.warning("%s The interventions that train models are run.", diagnosis.headline)
        probe = Probe(subject, "deep", seed=settings.diagnose.seeds[0])
        diagnosis = run_questions(probe, questions, on_finding=on_finding)
    if workspace.parent.name == "runs":
        diagnosis = with_options(diagnosis, f"--name {workspace.name}")
    return probe, diagnosis


def read_inputs(settings: Settings, workspace: Path) -> tuple[RawLog, PreparedLog]:
    """Return the workspace's raw log and prepared data, which all its models share.

    Raises:
        ValueError: They are missing or damaged.
    """
    PreparedData.load(workspace / "data" / "prepared", verify=True)
    frame, _ = read_raw_log(workspace / "data" / "raw", choose_reading(settings.data))
    frame, _ = split_valid(frame)
    return log_from_frame(frame), load_prepared(workspace / "data" / "prepared")


def subject_of(settings: Settings, model: str, log: RawLog, ready: PreparedLog) -> Subject:
    """Return the pipeline's program for one neural model on these data."""
    return pipeline_subject(
        model,
        settings.train.shared.model_dump(),
        getattr(settings.train, model).model_dump(),
        choose_recipe(settings.data),
        log=log,
        ready=ready,
    )


def workspace_subject(settings: Settings, workspace: Path) -> Subject:
    """Return the program of the model under test, with what was trained of it and of its peers."""
    model, seed = settings.diagnose.model, settings.experiment.seeds[0]
    subject = subject_of(settings, model, *read_inputs(settings, workspace))
    peers = {
        name: trained
        for name in settings.experiment.models
        if name != model and (trained := read_trained(workspace, name, seed)) is not None
    }
    return subject.replace(trained=read_trained(workspace, model, seed), peers=peers)


def write_findings(
    workspace: Path, diagnosis: Diagnosis, *, errors: dict[str, str] | None = None
) -> Path:
    """Write the findings of the model under test and return their path."""
    path = workspace / "artifacts" / "diagnosis" / FINDINGS_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_document(path, diagnosis, errors=errors)
    return path


def write_document(
    path: Path, diagnosis: Diagnosis, *, errors: dict[str, str] | None = None
) -> None:
    """Write findings as JSON in one move."""
    document = {**diagnosis.to_json(), "errors": errors or {}}
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(path, text + "\n")


def _plots(settings: Settings, workspace: Path) -> dict[str, Any]:
    return measure_plots(
        workspace,
        models=settings.experiment.models,
        seed=settings.experiment.seeds[0],
        model_under_test=settings.diagnose.model,
        num_sample_users=settings.report.num_sample_users,
        max_seq_len=settings.train.shared.max_seq_len,
    )


def _affordable(settings: Settings, subject: Subject) -> Mode:
    if settings.diagnose.deep:
        return "deep"
    return "exact" if subject.trained is None else "after_training"
