"""The stage ``check``: asks every exact question about every neural model before any is trained."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch

from tasks.data.storage import replaced_folder
from tasks.diagnostics.diagnose_stage import read_inputs, subject_of, write_document
from tasks.diagnostics.engine import Diagnosis, run_questions
from tasks.diagnostics.finding import Finding
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import DiagnosisError, FaultFoundError
from tasks.diagnostics.questions import QUESTIONS
from tasks.diagnostics.subject import Subject
from tasks.settings import Settings
from tasks.tracking import log_refusal
from tasks.training.models import NeuralModel, model_spec

CHECKS_FOLDER = Path("artifacts") / "checks"
GATE_FILE = CHECKS_FOLDER / "gate.txt"
GATE = "Training may begin.\n"
"""What trainings depend on. Always the same text: checking again never means training again."""
GO_ON = (
    "To train all the same, set diagnose.before_training to warn "
    "(assay run --set diagnose.before_training=warn)."
)
MAX_NAMED = 3
"""Questions told in full; the rest are listed by number."""


def run(settings: Settings, workspace: Path) -> dict[str, Any]:
    """Check the program of every neural model; open the gate for the trainings, or stop the run.

    Writes ``artifacts/checks/findings/<model>.json`` and ``artifacts/checks/gate.txt``.

    Args:
        settings: All settings.
        workspace: Folder with ``data/raw`` and ``data/prepared``.

    Returns:
        Small values: seconds, and one line per model.

    Raises:
        FaultFoundError: A question is faulty and ``diagnose.before_training`` is ``stop``.
        DiagnosisError: A question failed by a bug of its own.
    """
    choice = settings.diagnose.before_training
    (workspace / GATE_FILE).unlink(missing_ok=True)
    results: dict[str, Any] = {}
    faulty: list[tuple[str, Diagnosis]] = []
    started = time.monotonic()
    models = neural_models(settings) if choice != "off" else []
    inputs = read_inputs(settings, workspace) if models else ()
    broken: DiagnosisError | None = None
    with replaced_folder(workspace / CHECKS_FOLDER / "findings") as folder:
        for model in models:
            subject = subject_of(settings, model, *inputs)
            try:
                diagnosis = check_model(settings, folder, subject, model)
            except DiagnosisError as error:  # the findings there are stay
                broken = error
                break
            results[model] = diagnosis.headline
            if diagnosis.count()["faulty"]:
                faulty.append((model, diagnosis))
    if broken is not None:
        raise broken
    if choice == "off":
        results["checked"] = "nothing: diagnose.before_training is off"
    else:
        results["seconds"] = round(time.monotonic() - started, 1)
    if faulty and choice == "stop":
        log_refusal(settings, workspace)
        raise FaultFoundError(f"stopped before training; {explain(faulty)}\n{GO_ON}")
    if faulty:
        results["warning"] = explain(faulty)
    _open_gate(workspace / GATE_FILE)
    return results


def neural_models(settings: Settings) -> list[str]:
    """Names of the models to be trained; those that are only fitted need no check of this kind."""
    return [
        name for name in settings.experiment.models if isinstance(model_spec(name), NeuralModel)
    ]


def check_model(settings: Settings, folder: Path, subject: Subject, model: str) -> Diagnosis:
    """Answer the exact questions about one model's program and write the findings.

    Args:
        settings: All settings.
        folder: Where the findings are written, as ``<model>.json``.
        subject: The program.
        model: Name of the model.

    Raises:
        DiagnosisError: A question failed by a bug of its own; the other findings are written.
    """
    torch.set_num_threads(settings.train.shared.num_threads)
    probe = Probe(subject, seed=settings.diagnose.seeds[0])
    path = folder / f"{model}.json"
    exact = [question for question in QUESTIONS if question.mode == "exact"]
    try:
        diagnosis = run_questions(probe, exact)
    except DiagnosisError as error:
        write_document(path, error.diagnosis, errors=error.failures)
        raise
    write_document(path, diagnosis)
    return diagnosis


def explain(faulty: list[tuple[str, Diagnosis]]) -> str:
    """Say which questions are faulty: stage, evidence, next step, and where to read more.

    What several models share is said once.
    """
    shared: dict[tuple[str, str], list[str]] = {}
    findings: dict[tuple[str, str], Finding] = {}
    for model, diagnosis in faulty:
        found = [f for f in diagnosis.findings if f.verdict == "faulty"]
        # The question to blame first; the others may be its consequences.
        found.sort(key=lambda finding: finding.question != diagnosis.question)
        for finding in found:
            key = (finding.number, finding.sentence)
            shared.setdefault(key, []).append(model)
            findings.setdefault(key, finding)
    lines = [f"the exact checks found a fault in {', '.join(model for model, _ in faulty)}."]
    lines += [_line(shared[key], findings[key]) for key in list(shared)[:MAX_NAMED]]
    rest = list(dict.fromkeys(number for number, _ in list(shared)[MAX_NAMED:]))
    if rest:
        lines.append(f"  Also faulty, perhaps as a consequence: {', '.join(rest)}")
    return "\n".join([*lines, f"All answers with their evidence: {CHECKS_FOLDER}/findings."])


def _line(models: list[str], finding: Finding) -> str:
    advice = f"\n    Next step: {finding.advice[0]}" if finding.advice else ""
    return (
        f"  {', '.join(models)}: {finding.number} {finding.question}, stage {finding.stage}: "
        f"{finding.sentence}{advice}"
    )


def _open_gate(path: Path) -> None:
    partial = path.with_suffix(".part")
    partial.write_text(GATE, encoding="utf-8")
    os.replace(partial, path)
