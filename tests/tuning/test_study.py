import numpy as np
import optuna
import polars as pl
import pytest
from optuna.trial import FixedTrial, TrialState

from tasks.data.build import build_prepared
from tasks.data.recipe import Recipe
from tasks.settings import Settings
from tasks.training.plan import NonFiniteLossError
from tasks.tuning.space import COMMON, OWN, suggest, tunable
from tasks.tuning.study import Search, best_section, finished, open_study, run_search
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


def test_same_settings_drawn_twice_count_once(folder, tmp_path):
    search = make_search(folder, tmp_path / "journal.log", models=("gru",))
    for value in (0.1, 0.1):
        study = open_study(search, "gru", 3)
        trial = study.ask()
        suggest(trial, "gru", {})
        study.tell(trial, value)
    assert len(study.trials) == 2
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
