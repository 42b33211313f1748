import numpy as np
import optuna
import polars as pl
import pytest
from optuna.trial import FixedTrial, TrialState

from tasks.data.build import build_prepared
from tasks.data.recipe import Recipe
from tasks.settings import Settings
from tasks.training.observer import EpochReport
from tasks.training.plan import NonFiniteLossError
from tasks.tuning.journal import mend_journal
from tasks.tuning.space import COMMON, OWN, start_of, suggest, tunable
from tasks.tuning.study import (
    PATIENT_EPOCHS,
    STARTUP_TRIALS,
    Search,
    StudyDamagedError,
    _work,
    best_section,
    finished,
    open_study,
    run_search,
)
from tasks.tuning.trial import load_data, run_trial


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rng = np.random.default_rng(0)
    users, items = np.repeat(np.arange(30), 8), []
    for _ in range(30):
        first = int(rng.integers(12))
        items += [(first + step) % 12 for step in range(8)]
    frame = pl.DataFrame(
        {
            "user_id": [f"u{user}" for user in users],
            "item_id": [f"i{item}" for item in items],
            "timestamp": np.arange(len(items)) * 1_000_000,
            "row": np.arange(len(items)),
        }
    )
    path = tmp_path_factory.mktemp("tuning") / "prepared"
    build_prepared(path, frame, Recipe())
    return path


def make_search(folder, storage, models=("gru", "lstm"), trials=2, **shared):
    settings = Settings().train
    values = settings.shared.model_dump() | {"max_epochs": 2, "max_seq_len": 8, "device": "cpu"}
    small = {"embedding_dim": 8}
    sections = {name: getattr(settings, name).model_dump() | small for name in tunable()}
    return Search(folder, storage, models, trials, values | shared, sections)


@pytest.mark.parametrize("model", tunable())
def test_space_is_the_same_for_all_models_where_it_applies(model):
    own = set(OWN[model])
    fixed = {name: values[0] for name, values in {**COMMON, **OWN[model]}.items()}
    drawn = suggest(FixedTrial({"learning_rate": 0.00123456, **fixed}), model, {"x": 1})
    assert set(drawn) == {"x", "learning_rate", *COMMON, *own}
    assert drawn["learning_rate"] == 0.0012


def test_every_drawn_section_is_valid_settings():
    for model in tunable():
        base = getattr(Settings().train, model).model_dump()
        last = {name: values[-1] for name, values in {**COMMON, **OWN[model]}.items()}
        section = suggest(FixedTrial({"learning_rate": 0.01, **last}), model, base)
        drawn = type(getattr(Settings().train, model)).model_validate(section)
        assert {name: getattr(drawn, name) for name in last} == last


def test_search_gives_every_model_its_trials_and_goes_on_where_it_stopped(folder, tmp_path):
    search = make_search(folder, tmp_path / "journal.log", trials=1)
    seen = []
    assert run_search(search, on_trial=lambda model, t: seen.append((model, t.number))) == {
        "gru": 1,
        "lstm": 1,
    }
    assert seen == [("gru", 0), ("lstm", 0)]
    more = make_search(folder, tmp_path / "journal.log", trials=2)
    assert run_search(more) == {"gru": 2, "lstm": 2}
    assert run_search(more, on_trial=lambda model, t: seen.append(model)) == {"gru": 2, "lstm": 2}
    assert len(seen) == 2
    section, value = best_section(more, "gru")
    assert value == max(t.value for t in open_study(more, "gru").trials)
    assert section["embedding_dim"] == 8


def test_trials_can_run_elsewhere(folder, tmp_path):
    search = make_search(folder, tmp_path / "journal.log", trials=2)
    seen = []

    def spread(function, pieces, *, on_result):
        for piece in reversed(pieces):
            on_result(function(piece))
        return len(pieces)

    def tell(model, trial):
        seen.append((model, trial.state.is_finished()))

    counts = run_search(search, devices=("cpu",), on_trial=tell, spread=spread)
    assert counts == {"gru": 2, "lstm": 2}
    assert sorted(seen) == [("gru", True)] * 2 + [("lstm", True)] * 2
    more = make_search(folder, tmp_path / "journal.log", trials=3)
    assert run_search(more, budget=0.0, on_trial=tell, spread=spread) == counts
    assert len(seen) == 4


def test_processes_that_open_the_study_anew_draw_other_settings(folder, tmp_path):
    search = make_search(folder, tmp_path / "journal.log", models=("gru",))
    drawn = set()
    for number in range(5):
        trial = open_study(search, "gru", number).ask()
        suggest(trial, "gru", {})
        drawn.add(trial.params["learning_rate"])
    assert len(drawn) == 5


def test_first_trial_is_of_the_settings_there_are(folder, tmp_path):
    search = make_search(folder, tmp_path / "journal.log", models=("gru", "xlstm"), trials=2)
    search.sections["gru"].update(learning_rate=0.00412, dropout=0.3)
    assert run_search(search) == {"gru": 2, "xlstm": 2}
    more = make_search(folder, tmp_path / "journal.log", models=("gru",), trials=3)
    more.sections["gru"].update(search.sections["gru"])
    run_search(more)
    for model, count in (("gru", 3), ("xlstm", 2)):
        drawn = [trial.params for trial in open_study(search, model).trials]
        assert len(drawn) == count
        own = start_of(model, search.sections[model])
        assert [params == own for params in drawn] == [True, *[False] * (count - 1)]


def test_settings_outside_the_space_are_no_trial(folder, tmp_path):
    search = make_search(folder, tmp_path / "journal.log", models=("gru", "lstm"), trials=1)
    search.sections["gru"].update(learning_rate=0.02)
    search.sections["lstm"].update(num_layers=3)
    run_search(search)
    assert open_study(search, "gru").trials[0].params["learning_rate"] <= 0.01
    assert open_study(search, "lstm").trials[0].params["num_layers"] < 3


def test_same_settings_drawn_twice_count_once(folder, tmp_path):
    search = make_search(folder, tmp_path / "journal.log", models=("gru",))
    for value in (0.1, 0.1):
        study = open_study(search, "gru", 3)
        trial = study.ask()
        suggest(trial, "gru", {})
        study.tell(trial, value)
    assert len(study.trials) == 2
    assert len(finished(study)) == 1
    rounded = trial.params | {"learning_rate": float(f"{trial.params['learning_rate']:.2g}")}
    study.enqueue_trial(rounded)
    trial = study.ask()
    suggest(trial, "gru", {})
    study.tell(trial, 0.1)
    assert len(study.trials) == 3
    assert len(finished(study)) == 1


def test_trial_a_killed_search_left_running_is_begun_anew(folder, tmp_path):
    search = make_search(folder, tmp_path / "journal.log", models=("gru",), trials=1)
    open_study(search, "gru").ask()
    assert run_search(search) == {"gru": 1}
    states = [trial.state for trial in open_study(search, "gru").trials]
    assert states == [TrialState.FAIL, TrialState.COMPLETE]


def test_other_settings_are_another_study(folder, tmp_path):
    one = make_search(folder, tmp_path / "journal.log")
    other = make_search(folder, tmp_path / "journal.log", batch_size=7)
    assert one.study_name("gru") != other.study_name("gru")


def test_training_that_diverges_is_pruned(folder, tmp_path, monkeypatch):
    def diverge(*args, **kwargs):
        raise NonFiniteLossError("loss", 3, 0.1, 2.0, "")

    monkeypatch.setattr("tasks.tuning.trial.train", diverge)
    search = make_search(folder, tmp_path / "journal.log", models=("gru",))
    trial = open_study(search, "gru").ask()
    with pytest.raises(optuna.TrialPruned, match="loss"):
        run_trial(trial, "gru", load_data(folder), search.shared, search.sections["gru"])


def test_unknown_model_is_named(folder, tmp_path):
    with pytest.raises(ValueError, match=r"popularity.*gru, lstm"):
        make_search(folder, tmp_path / "journal.log", models=("popularity",))


def tear(path, how):
    content = path.read_bytes()
    if how == "middle":
        lines = content.splitlines(keepends=True)
        lines[len(lines) // 2] = b'{"op_code": \xff\n'
        path.write_bytes(b"".join(lines))
    elif how == "zeros":
        path.write_bytes(content + b"\0" * 50)
    else:
        path.write_bytes(content[:-how])


@pytest.mark.parametrize("how", [1, 3, 40, 200, "zeros", "middle"])
def test_file_that_a_power_cut_tore_is_mended(folder, tmp_path, how, caplog):
    search = make_search(folder, tmp_path / "journal.log", models=("gru",))
    for value in (0.1, 0.2, 0.3):
        study = open_study(search, "gru", int(value * 10))
        trial = study.ask()
        suggest(trial, "gru", {})
        study.tell(trial, value)
    before = search.storage.read_bytes()
    tear(search.storage, how)
    torn = search.storage.read_bytes()

    lost = mend_journal(search.storage)

    assert lost > 0
    assert before.startswith(search.storage.read_bytes())
    aside = search.storage.with_name("journal.log.damaged")
    assert (search.storage.read_bytes() + aside.read_bytes()).startswith(torn.rstrip(b"\n"))
    assert "journal.log was damaged at line" in caplog.text
    study = open_study(search, "gru")
    values = [trial.value for trial in study.trials if trial.state == TrialState.COMPLETE]
    assert values == [0.1, 0.2, 0.3][: len(values)]
    assert len(values) >= (1 if how == "middle" else 2)
    # What is written next is read again.
    trial = study.ask()
    suggest(trial, "gru", {})
    study.tell(trial, 0.4)
    assert open_study(search, "gru").trials[-1].value == 0.4
    assert mend_journal(search.storage) == 0


def test_search_mends_its_file_before_it_goes_on(folder, tmp_path):
    search = make_search(folder, tmp_path / "journal.log", models=("gru",), trials=1)
    assert run_search(search) == {"gru": 1}
    tear(search.storage, "zeros")

    assert run_search(search) == {"gru": 1}
    assert (tmp_path / "journal.log.damaged").is_file()


def test_file_of_something_else_is_named(folder, tmp_path):
    search = make_search(folder, tmp_path / "journal.log", models=("gru",))
    search.storage.write_text('{"op_code": 4, "worker_id": "w"}\n')
    with pytest.raises(StudyDamagedError, match=r"journal\.log can.t be read.*Move it away"):
        open_study(search, "gru")


@pytest.mark.parametrize(
    ("value", "ended_at"), [(0.1, PATIENT_EPOCHS), (0.9, None)], ids=["hopeless", "best"]
)
def test_hopeless_trial_is_ended_early(folder, tmp_path, monkeypatch, value, ended_at):
    search = make_search(folder, tmp_path / "journal.log", models=("gru",))
    for number in range(STARTUP_TRIALS):
        study = open_study(search, "gru", number)
        earlier = study.ask()
        suggest(earlier, "gru", {})
        for epoch in range(1, 11):
            earlier.report(0.5, epoch)
        study.tell(earlier, 0.5)
    told = []

    class Record:
        best_epoch, best_value = 10, value

    def train(parts, plan, *, observers):
        for epoch in range(1, 11):
            told.append(epoch)
            report = EpochReport(epoch, epoch, {"val/ndcg_at_10": value}, epoch == 1)
            for observer in observers:
                observer.on_epoch(report)
        return Record

    monkeypatch.setattr("tasks.tuning.trial.train", train)
    monkeypatch.setattr("tasks.tuning.study._worker", {"device": "cpu", "data": load_data(folder)})

    _, number = _work(search, "gru", STARTUP_TRIALS)

    found = open_study(search, "gru").trials[number]
    assert found.state == (TrialState.PRUNED if ended_at else TrialState.COMPLETE)
    assert told[-1] == (ended_at or 10)
    assert sorted(found.intermediate_values) == told
    assert len(finished(open_study(search, "gru"))) == STARTUP_TRIALS + 1
