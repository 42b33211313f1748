from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.serving import explain_stage
from tasks.serving.explain_stage import time_text
from tasks.settings import Settings, settings_from_dict
from tests.serving.conftest import log_of


@pytest.fixture
def workspace(project: Path, tmp_path: Path) -> Path:
    """The project's data and models, with room for a report."""
    for part in ("data", "artifacts/models"):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / part).symlink_to(project / part, target_is_directory=True)
    return tmp_path


def test_a_few_users_are_explained_for_the_best_model_and_the_one_under_test(
    workspace: Path, project: Path
) -> None:
    table = workspace / "names.csv"
    table.write_text("id,name\n" + "".join(f"i{n:04d},Film {n}\n" for n in range(1, 31)))
    settings = settings_from_dict({"recommend": {"item_table": "names.csv"}})
    explain_stage.run(settings, workspace)
    found = json.loads((workspace / explain_stage.EXPLANATIONS).read_text())
    assert [each["model"] for each in found] == ["gru"] * 3 + ["xlstm"] * 3
    assert len({each["user"] for each in found}) == 3
    for each in found:
        log = [f"Film {int(item[1:])}" for item in log_of(project, each["user"])]
        assert [event["item"] for event in each["history"]] == log
        assert set(each["history"][0]) == {"item", "time", "influence", "gradient"}
        assert all(isinstance(event["gradient"], float) for event in each["history"])
        assert set(each["recommended"][0]) == {"item", "score"}
        scores = [row["score"] for row in each["recommended"]]
        assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("sections", "users"), [({"num_sample_users": 0}, 0), ({"num_sample_users": 1}, 1)]
)
def test_as_many_users_as_asked_for(workspace: Path, sections: dict, users: int) -> None:
    written = explain_stage.run(settings_from_dict({"report": sections}), workspace)
    assert len(written) == 2 * users


def test_without_trained_networks_nobody_is_explained(tmp_path: Path) -> None:
    assert explain_stage.run(Settings(), tmp_path) == []
    assert json.loads((tmp_path / explain_stage.EXPLANATIONS).read_text()) == []


def test_times_beyond_the_calendar_are_given_in_seconds() -> None:
    assert time_text(2**61) == f"{2**61 / 1e6:.0f} s"
    assert time_text(-1_000_000) == "1969-12-31 23:59:59"
