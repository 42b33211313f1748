"""What the nightly flow says of the log it prepared."""

from __future__ import annotations

import pytest

from flows import growth_check
from flows.reproduce import StageRefusedError
from flows.run_logs import ExperimentFailedError
from tasks.settings import settings_from_dict, write_params
from tests.data.test_growth import make_prepared
from tests.flows.conftest import DAG, calls


@pytest.fixture
def workspace(tmp_path):
    write_params(settings_from_dict({}), tmp_path / "params.yaml")
    make_prepared(tmp_path / "data" / "prepared")
    return tmp_path


def test_first_night_has_nothing_to_compare_with(workspace):
    said = []
    growth_check.check(workspace, said.append)
    assert said == ["No earlier log to compare with."]


def test_log_that_grew_is_described_and_accepted(workspace):
    growth_check.accept(workspace)
    make_prepared(workspace / "data" / "prepared", num_events=9)
    said = []
    growth_check.check(workspace, said.append)
    assert len(said) == 1
    assert "+12 events" in said[0]


def test_log_cut_short_is_refused_before_training(workspace):
    growth_check.accept(workspace)
    make_prepared(workspace / "data" / "prepared", num_events=4)
    with pytest.raises(StageRefusedError, match=r"events are gone.*max_vanished_events") as caught:
        growth_check.check(workspace, print)
    assert caught.value.exit_code == 2
    assert str(growth_check.place_of(workspace)) in str(caught.value)


def test_setting_turns_the_refusal_into_a_warning(workspace):
    growth_check.accept(workspace)
    make_prepared(workspace / "data" / "prepared", num_events=4)
    write_params(settings_from_dict({"retrain": {"on_breach": "warn"}}), workspace / "params.yaml")
    said = []
    growth_check.check(workspace, said.append)
    assert said[-1].startswith("Warning: the log is not that of last time")


@pytest.mark.parametrize("on_breach", ["refuse", "warn"])
def test_damaged_memory_of_the_last_log_lets_nothing_pass_unsaid(workspace, on_breach):
    settings = settings_from_dict({"retrain": {"on_breach": on_breach}})
    write_params(settings, workspace / "params.yaml")
    growth_check.accept(workspace)
    (growth_check.place_of(workspace) / "items.csv").write_text("cut")
    said = []
    if on_breach == "refuse":
        with pytest.raises(StageRefusedError, match=r"items\.csv was changed or damaged.*remove "):
            growth_check.check(workspace, said.append)
    else:
        growth_check.check(workspace, said.append)
        assert "items.csv was changed or damaged" in said[-1]


@pytest.mark.xdist_group("prefect")
def test_a_log_refused_last_night_is_refused_tonight(run_experiment, toy, monkeypatch):
    def refuse(_workspace, _log):
        raise StageRefusedError("the log was cut short")

    (toy / "dvc.yaml").write_text(DAG.replace("  fetch:", "  prepare:"))
    with monkeypatch.context() as patch:
        patch.setattr(growth_check, "check", refuse)
        for _ in range(2):
            # The second time DVC finds the prepared log up to date.
            with pytest.raises(ExperimentFailedError, match="cut short") as caught:
                run_experiment(watch_growth=True)
            assert caught.value.exit_code == 2
            assert calls(toy) == ["fetch"]

    monkeypatch.setattr(growth_check, "check", lambda *_: None)
    monkeypatch.setattr(growth_check, "accept", lambda _: None)
    outcomes = run_experiment(watch_growth=True).outcomes
    assert (outcomes["prepare"], outcomes["evaluate"]) == ("unchanged", "ran")
