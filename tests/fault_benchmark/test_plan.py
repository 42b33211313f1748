"""What is run, kept, and asked of which log."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.fault_benchmark.campaign import run_campaign, sampled, with_clean_programs
from tasks.fault_benchmark.clean import clean_subject
from tasks.fault_benchmark.logs import SYNTHETIC, real_log
from tasks.fault_benchmark.plan import Catalogue, fault_jobs, healthy_jobs
from tasks.fault_benchmark.rows import Row, append, newest, read
from tasks.fault_benchmark.runner import run_job
from tasks.fault_benchmark.sources import START, code_hash, reachable


def test_faults_go_into_models_they_fit() -> None:
    catalogue = Catalogue.load()
    models = {
        job.model for job in fault_jobs(catalogue, only=["upper_triangle", "no_sort"], seeds=[0])
    }
    assert models == {"sasrec", "gru", "xlstm"}


def test_variants_go_into_models_that_know_their_settings() -> None:
    jobs = healthy_jobs(Catalogue.load(), only=["kernel_one", "one_head"], seeds=[0])
    of = {id: {job.model for job in jobs if job.id == id} for id in ("kernel_one", "one_head")}
    assert of["kernel_one"] == {"slstm", "mlstm", "xlstm"}
    assert "gru" not in of["one_head"]


def test_real_logs_take_no_settings_of_synthetic_ones() -> None:
    jobs = healthy_jobs(Catalogue.load(), only=["no_order"], data=["a.csv"], seeds=[0])
    assert jobs == []


def test_unknown_ids_are_refused() -> None:
    with pytest.raises(ValueError, match="no faults or variants"):
        fault_jobs(Catalogue.load(), only=["nothing"])


def test_unknown_settings_and_models_are_refused() -> None:
    with pytest.raises(ValueError, match="are unknown"):
        clean_subject(SYNTHETIC, "gru", 0, {"no_such": 1})
    with pytest.raises(ValueError, match="expected one of"):
        clean_subject(SYNTHETIC, "cnn", 0)


def test_every_clean_program_is_run_once() -> None:
    catalogue = Catalogue.load()
    jobs = fault_jobs(catalogue, only=["no_sort", "sort_desc"], models=["gru"], seeds=[0])
    assert [job.kind for job in with_clean_programs(jobs, catalogue)] == [
        "clean",
        "listed",
        "listed",
    ]


def test_the_digest_follows_what_is_imported(tmp_path: Path) -> None:
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "start.py").write_text("def run():\n    from tasks import used\n")
    used, other = folder / "used.py", folder / "other.py"
    used.write_text("a = 1\n")
    other.write_text("a = 1\n")
    before = code_hash(tmp_path, "tasks.start")
    other.write_text("a = 2\n")
    assert code_hash(tmp_path, "tasks.start") == before
    used.write_text("a = 2\n")
    assert code_hash(tmp_path, "tasks.start") != before


def test_questions_faults_and_training_can_change_a_result_and_reports_cannot(
    repository: Path,
) -> None:
    names = {str(path.relative_to(repository)) for path in reachable(repository, START)}
    assert {
        "tasks/diagnostics/questions/loss_falls.py",
        "tasks/diagnostics/measurements/cures.py",
        "tasks/faults/core_faults.py",
        "tasks/training/loop.py",
        "xlstm_model/__init__.py",
    } <= names
    assert not names & {
        "tasks/diagnostics/diagnose_stage.py",
        "tasks/fault_benchmark/report.py",
        "tasks/fault_benchmark/score.py",
    }


def test_rows_survive_a_cut_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    row = Row("listed", "one", "gru", "synthetic", 0, "code")
    append(path, row)
    with path.open("a") as file:
        file.write('{"kind": "listed", "id"')
    assert read(path) == [row]
    assert newest(read(path), "other") == {}


def test_a_campaign_goes_on_where_it_stopped(tmp_path: Path) -> None:
    catalogue = Catalogue.load()
    jobs = fault_jobs(catalogue, only=["no_shift", "loss_sign"], models=["gru"], seeds=[0])
    path = tmp_path / "rows.jsonl"
    first = run_campaign(jobs[:1], path, "code")
    second = run_campaign(jobs, path, "code")
    nothing = run_campaign(jobs, path, "other", budget=0)
    assert (first.run, second.run, second.kept) == (1, 1, 1)
    assert (nothing.run, nothing.left) == (0, 2)


def test_faults_of_ones_own_load_from_a_file(repository: Path) -> None:
    catalogue = Catalogue.load(repository / "docs" / "examples" / "own_faults.py")
    rows = {
        job.id: run_job(job, catalogue, "code")
        for job in fault_jobs(catalogue, models=["gru"], seeds=[0])
    }
    assert "targets_shifted_by_one" in {red.question for red in rows["targets_rolled"].reds}
    assert rows["users_mixed"].stage == "batch"


def test_a_file_without_faults_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("x = 1\n")
    with pytest.raises(ValueError, match="defines neither FAULTS nor VARIANTS"):
        Catalogue.load(tmp_path / "empty.py")


def test_real_logs_are_sampled_anew_for_every_seed(shared_dir: Path) -> None:
    source = real_log(shared_dir / "data" / "ml-100k" / "ml-100k.inter")
    first, again, other = source.log(0, {}), source.log(0, {}), source.log(1, {})
    assert set(first.user) == set(again.user) != set(other.user)
    with pytest.raises(ValueError, match="can be set for synthetic ones"):
        source.log(0, {"num_items": 3})


def test_a_sample_is_drawn_evenly_and_the_same_every_time() -> None:
    jobs = healthy_jobs(Catalogue.load(), seeds=[0])
    drawn = sampled(jobs, 90, 100)
    assert drawn == sampled(jobs, 90, 100) != jobs[:90]
    assert len({job.model for job in drawn}) == 7
    assert sampled(jobs, 0, 100) == jobs
