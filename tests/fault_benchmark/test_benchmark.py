"""The diagnosis on planted faults: a smoke set, a larger one, and healthy programs beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.fault_benchmark.frozen import changed, labels_of, read_frozen
from tasks.fault_benchmark.kill import changed_parts, kill_test, kill_tests
from tasks.fault_benchmark.plan import Catalogue, Job, clean_job, fault_jobs, healthy_jobs
from tasks.fault_benchmark.runner import run_job, subject_of
from tasks.fault_benchmark.score import judge
from tasks.faults import FAULTS
from tasks.faults.review import DEFECTS

CATALOGUE = Catalogue.load()

SMOKE = (
    "no_sort",
    "ts_misaligned",
    "enc_mismatch",
    "dup_users",
    "no_shift",
    "bidirectional",
    "batch_norm_mix",
    "double_softmax",
    "opt_stale_copy",
    "clip_missing",
    "read_last_col",
    "ties_optimistic",
    "loader_unseeded",
    "mean_of_batch_means",
    "dropout_twice",
    "dropout_unscaled",
    "embedding_one_before",
    "scores_bounded",
    "every_second_step",
    "seen_items_removed",
    "users_run_on",
    "core_zeroed",
)
"""Faults of every place, found by identities in a plain model."""

UNUSUAL = {
    "restored_items": "gru",
    "left_padding": "slstm",
    "learned_start": "slstm",
    "mlstm_written_out": "mlstm",
    "one_event": "sasrec",
    "very_narrow": "mlstm",
    "sparse_relu": "linear",
}
"""Healthy programs that look unusual, and a model each."""

MANY = ("resid_original", "gates_swapped", "mlstm_no_mask", "bpr_sign", "negatives_uniform")


def _jobs(*ids: str) -> list[Job]:
    return fault_jobs(CATALOGUE, only=ids, models=["gru"], seeds=[0])


def _judged(job: Job):
    row = run_job(job, CATALOGUE, "code")
    return judge(row, CATALOGUE.faults[job.id][1], frozenset())


@pytest.mark.parametrize("job", _jobs(*SMOKE), ids=lambda job: job.id)
def test_planted_faults_are_found_and_placed(job: Job) -> None:
    verdict = _judged(job)
    assert verdict.detected, verdict.row.headline
    assert verdict.localised, verdict.row.headline


@pytest.mark.parametrize("model", ["linear", "gru"])
def test_the_clean_program_is_green(model: str) -> None:
    row = run_job(Job("clean", "usual", model, "synthetic", 0), CATALOGUE, "code")
    assert (row.reds, row.failed, row.crashed) == ((), (), "")


@pytest.mark.parametrize("id", UNUSUAL)
def test_unusual_healthy_programs_are_green(id: str) -> None:
    (job,) = healthy_jobs(CATALOGUE, only=[id], models=[UNUSUAL[id]], seeds=[0])
    row = run_job(job, CATALOGUE, "code")
    assert (row.reds, row.failed, row.crashed) == ((), (), "")


@pytest.mark.parametrize("model", ["gru", "slstm"])
def test_gradients_without_a_history_are_no_fault(model: str) -> None:
    # Recurrent weights have nothing to read, and gates that cancel leave rounding as gradients.
    (job,) = healthy_jobs(CATALOGUE, only=["one_event"], models=[model], seeds=[0])
    row = run_job(job, CATALOGUE, "code")
    assert (row.reds, row.failed, row.crashed) == ((), (), "")


@pytest.mark.parametrize("id", ["nan_inject", "epochs_1"])
def test_what_shows_after_training_alone_is_found_by_going_on(id: str) -> None:
    verdict = _judged(_jobs(id)[0])
    assert verdict.row.mode != "exact"
    assert verdict.localised, verdict.row.headline


def test_labels_are_the_frozen_ones(repository: Path) -> None:
    assert changed(CATALOGUE, read_frozen(repository)) == []


def test_a_changed_label_is_named() -> None:
    frozen = labels_of(CATALOGUE)
    frozen["no_sort"] = {**frozen["no_sort"], "stages": ["loss"]}
    assert changed(CATALOGUE, frozen) == ["no_sort"]


def test_planting_changes_the_part_it_claims() -> None:
    job = _jobs("loss_sign")[0]
    clean = subject_of(clean_job(job, CATALOGUE), CATALOGUE)
    parts = changed_parts(clean, subject_of(job, CATALOGUE), 0)
    assert set(parts) == {"loss", "train_step"}
    assert changed_parts(clean, clean, 0) == ()


@pytest.mark.long
@pytest.mark.parametrize("job", _jobs(*DEFECTS, *MANY), ids=lambda job: job.id)
def test_defects_of_the_review_are_found_before_any_training(job: Job) -> None:
    verdict = _judged(job)
    assert verdict.row.mode == "exact"
    assert verdict.detected, verdict.row.headline


@pytest.mark.long
@pytest.mark.parametrize(
    "job",
    healthy_jobs(CATALOGUE, models=["gru", "xlstm"], seeds=[0]),
    ids=lambda job: f"{job.id}-{job.model}",
)
def test_healthy_programs_are_built_and_run(job: Job) -> None:
    row = run_job(job, CATALOGUE, "code")
    assert row.crashed == ""
    assert row.failed == ()


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_every_fault_can_be_planted(fault) -> None:
    job = _jobs(fault.id)[0]
    assert subject_of(job, CATALOGUE).name.endswith(fault.id)


@pytest.mark.long
def test_kill_tests_say_the_same_side_by_side():
    jobs = fault_jobs(CATALOGUE, seeds=(0,), models=("gru",), only=("no_sort", "users_merged"))
    assert len(jobs) == 2
    side_by_side = dict(kill_tests(jobs, CATALOGUE, workers=2))
    assert side_by_side == {job: kill_test(job, CATALOGUE) for job in jobs}
    assert all(kill.killed for kill in side_by_side.values())
