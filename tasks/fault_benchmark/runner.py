"""Runs one job: builds the program, diagnoses it, and says what turned red."""

from __future__ import annotations

import time
from functools import lru_cache
from pathlib import Path
from typing import Any

from tasks.diagnostics.conclusion import calls_for_interventions
from tasks.diagnostics.engine import Diagnosis, run_questions
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import DiagnosisError
from tasks.diagnostics.question import MODES, Mode
from tasks.diagnostics.questions import QUESTIONS
from tasks.diagnostics.subject import Subject
from tasks.fault_benchmark.clean import clean_subject
from tasks.fault_benchmark.logs import SYNTHETIC, LogSource, real_log
from tasks.fault_benchmark.plan import Catalogue, Job
from tasks.fault_benchmark.rows import Red, Row
from tasks.faults.fault import Effort

DETECTING_RULES = frozenset({"exact", "oracle", "intervention"})
"""Rules that show a fault by an identity, a recomputation or a cause, not by a symptom alone."""


@lru_cache(maxsize=4)
def log_source(data: str) -> LogSource:
    """Return the log a job names."""
    return SYNTHETIC if data == "synthetic" else real_log(Path(data))


def subject_of(job: Job, catalogue: Catalogue) -> Subject:
    """Build the program of a job."""
    source = log_source(job.data)
    if job.kind == "clean":
        return clean_subject(source, job.model, job.seed, dict(job.settings))
    if job.kind == "healthy":
        variant = catalogue.variants[job.id]
        subject = clean_subject(source, job.model, job.seed, variant.settings)
        return with_data_ready(variant.apply(subject))
    _, fault = catalogue.faults[job.id]
    settings = {**fault.needs, **fault.settings}
    return with_data_ready(fault.plant(clean_subject(source, job.model, job.seed, settings)))


def with_data_ready(subject: Subject) -> Subject:
    """Prepare once what a changed preparation makes of the log.

    A preparation that fails is left to the diagnosis, which has to say so.
    """
    if subject.ready is not None:
        return subject
    try:
        return subject.replace(ready=subject.prepared())
    except Exception:
        return subject


def run_job(job: Job, catalogue: Catalogue, code: str) -> Row:
    """Diagnose the program of a job.

    A faulty program is diagnosed as a run of the pipeline is: before training, and, where nothing
    is shown to be broken, after training. The interventions of the deep mode follow where the label
    asks for them or the diagnosis does. Everything else is diagnosed in the job's one mode, and
    with interventions where that calls for them.

    Args:
        job: What to run.
        catalogue: Where faults and variants are found.
        code: Digest of the sources, kept with the row.
    """
    start = time.process_time()
    try:
        subject = subject_of(job, catalogue)
        if job.kind in ("listed", "held_out", "own"):
            values = _escalate(subject, job.seed, catalogue.faults[job.id][1].effort)
        else:
            values = _in_mode(subject, job.seed, job.effort or "exact")
    except Exception as error:
        values = {"crashed": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    return Row.of(job, code, seconds=round(time.process_time() - start, 3), **values)


def _escalate(subject: Subject, seed: int, effort: Effort) -> dict[str, Any]:
    values: dict[str, Any] = {}
    intervene = False
    for mode in MODES:
        if mode == "deep" and not (effort == "deep" or values["reds"] or intervene):
            break
        if mode == "after_training":
            subject = _with_training(subject, seed)
        values, intervene = _values(subject, mode, seed)
        if any(red.rule in DETECTING_RULES for red in values["reds"]):
            break
    return values


def _in_mode(subject: Subject, seed: int, mode: Mode) -> dict[str, Any]:
    """Diagnose once; interventions follow where the pipeline would make them."""
    if mode == "exact":
        return _values(subject, mode, seed)[0]
    subject = _with_training(subject, seed)
    values, intervene = _values(subject, mode, seed)
    return _values(subject, "deep", seed)[0] if intervene and mode != "deep" else values


def _with_training(subject: Subject, seed: int) -> Subject:
    try:
        return subject.replace(trained=subject.train(subject, seed))
    except ArithmeticError as error:
        return subject.replace(failure=str(error)[:300])


def _values(subject: Subject, mode: Mode, seed: int) -> tuple[dict[str, Any], bool]:
    """Return what a row keeps of a diagnosis, and whether it calls for interventions."""
    failed: tuple[str, ...] = ()
    try:
        diagnosis: Diagnosis = run_questions(Probe(subject, mode, seed=seed), QUESTIONS)
    except DiagnosisError as error:
        diagnosis, failed = error.diagnosis, tuple(error.failures)
    verdicts: dict[str, list[str]] = {}
    reds = []
    for finding in diagnosis.findings:
        verdicts.setdefault(finding.verdict, []).append(finding.question)
        if finding.verdict == "faulty":
            text = finding.sentence[:300]
            reds.append(Red(finding.question, str(finding.stage), str(finding.rule), text))
    values = {
        "mode": mode,
        "reds": tuple(reds),
        "suspects": tuple(verdicts.get("suspect", ())),
        "undetermined": tuple(verdicts.get("undetermined", ())),
        "stage": diagnosis.stage or "",
        "question": diagnosis.question,
        "headline": diagnosis.headline[:400],
        "failed": failed,
    }
    return values, calls_for_interventions(diagnosis)
