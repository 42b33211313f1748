import tarfile
import threading

import pytest

from benchmarks import levers, remote_work
from benchmarks.remote_runs import collect, unpack
from benchmarks.remote_work import Plan, evaluate, make_jobs, work_off
from tasks.settings import Settings, load_settings, settings_from_dict, write_params


@pytest.fixture
def folder(tmp_path):
    values = Settings().model_dump(mode="json")
    values["experiment"].update(models=["popularity", "gru", "xlstm"], seeds=[0, 1])
    place = tmp_path / "there" / "mine"
    place.mkdir(parents=True)
    write_params(settings_from_dict(values), place / "params.yaml")
    return place


def finish(folder, model, seed):
    place = folder / "artifacts" / "models" / model / f"seed_{seed}"
    place.mkdir(parents=True)
    (place / "record.json").write_text("{}")
    (place / "model.safetensors").write_bytes(bytes(9))


def test_jobs_go_seed_by_seed_slow_models_first_without_what_is_done(folder):
    finish(folder, "gru", 0)
    found = [job.trainings for job in make_jobs(folder, [], [])]
    fitted = (("popularity", 0), ("popularity", 1))
    assert found == [(("xlstm", 0),), (("xlstm", 1),), (("gru", 1),), fitted]


def test_run_is_evaluated_once_after_its_last_training(folder, monkeypatch):
    done = []
    monkeypatch.setattr(remote_work, "_train", lambda job, *_: done.append(str(job)) or "")
    monkeypatch.setattr(remote_work, "evaluate", lambda folder, _: done.append(folder.name) or "")
    work_off(make_jobs(folder, [], []), Plan(3, 0, float("inf"), evaluate=True), lambda _: None)
    assert len(done) == 6
    assert done[-1] == "mine"


def test_training_without_memory_beside_others_is_begun_anew(folder, monkeypatch):
    said, tried, both, failed = [], [], threading.Barrier(2, timeout=10), threading.Event()

    def train(job, plan, place):
        tried.append(str(job))
        if len(tried) < 3:
            both.wait()
        if "gru" in str(job):
            assert failed.wait(10)
        elif not failed.is_set():
            return f"{job}: failed, OutOfMemoryError"
        return f"{job}: done"

    def say(line):
        said.append(line)
        failed.set()

    monkeypatch.setattr(remote_work, "_train", train)
    work_off(make_jobs(folder, ["gru", "xlstm"], [0]), Plan(2, 1, float("inf"), False), say)
    assert sorted(tried) == ["mine gru seed 0", "mine xlstm seed 0", "mine xlstm seed 0"]
    assert said[0].startswith("mine xlstm seed 0: out of memory beside others")
    assert sorted(said[1:]) == ["mine gru seed 0: done", "mine xlstm seed 0: done"]


def test_training_without_memory_alone_has_failed(folder, monkeypatch):
    said = []
    monkeypatch.setattr(remote_work, "_train", lambda *_: "failed, OutOfMemoryError")
    work_off(make_jobs(folder, ["gru"], [0]), Plan(2, 1, float("inf"), evaluate=False), said.append)
    assert said == ["failed, OutOfMemoryError"]


def test_no_training_starts_after_the_deadline(folder):
    said = []
    work_off(make_jobs(folder, ["gru"], []), Plan(1, 0, 0.0, evaluate=False), said.append)
    assert said == [f"mine gru seed {seed}: not started, no time left" for seed in (0, 1)]


def test_evaluation_is_left_to_seeds_that_all_models_have(folder, monkeypatch):
    for model in ("popularity", "gru", "xlstm"):
        finish(folder, model, 1)
    finish(folder, "gru", 0)
    monkeypatch.setattr(remote_work, "_run_module", lambda *args, **kwargs: None)
    assert evaluate(folder).startswith("mine: evaluated seeds [1]")
    assert load_settings(folder / "params.yaml").experiment.seeds == (1,)


def test_records_come_home_and_weights_only_of_named_runs(folder, tmp_path):
    finish(folder, "gru", 0)
    collect([folder], tmp_path / "out", [])
    with tarfile.open(tmp_path / "out" / "runs0.tar.gz") as archive:
        assert not [name for name in archive.getnames() if name.endswith(".safetensors")]
    collect([folder], tmp_path / "out", ["mine"])
    unpack([tmp_path / "out" / "runs0.tar.gz"], tmp_path / "home")
    kept = tmp_path / "home" / "mine" / "artifacts" / "models" / "gru" / "seed_0"
    assert (kept / "model.safetensors").stat().st_size == 9
    assert load_settings(tmp_path / "home" / "mine" / "params.yaml").experiment.seeds == (0, 1)


def test_an_archive_that_reaches_outside_is_refused(folder, tmp_path):
    with tarfile.open(tmp_path / "runs0.tar.gz", "w:gz") as archive:
        archive.add(folder / "params.yaml", "../params.yaml")
    with pytest.raises(ValueError, match=r"\.\./params\.yaml, which lies outside of"):
        unpack([tmp_path / "runs0.tar.gz"], tmp_path / "home")
    assert not (tmp_path / "params.yaml").exists()


def test_changes_to_a_preset_are_valid_settings_beside_its_data(folder):
    (folder / "data").mkdir()
    levers.make(folder)
    made = folder.parent / "lever-gbce"
    assert load_settings(made / "params.yaml").train.shared.loss == "gbce"
    assert (made / "data").resolve() == (folder / "data").resolve()
    assert len(list(folder.parent.glob("lever-*"))) == len(levers.LEVERS)


def test_run_is_ranked_on_the_gpu_of_the_process_that_ranks_it(folder, monkeypatch):
    seen = []
    monkeypatch.setattr(remote_work, "_train", lambda job, plan, place: "")
    monkeypatch.setattr(remote_work, "evaluate", lambda folder, visible: seen.append(visible) or "")
    work_off(make_jobs(folder, ["gru"], []), Plan(1, 2, float("inf"), evaluate=True), str)
    work_off(make_jobs(folder, ["gru"], []), Plan(1, 0, float("inf"), evaluate=True), str)
    assert seen == ["0", ""]
