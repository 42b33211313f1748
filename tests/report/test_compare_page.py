"""Runs side by side on a page: what changed is shown, escaped, and drawn in a real browser."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from flows import compare_runs
from tasks.report.compare_page import Run, differences, render_comparison, verdict_rows
from tasks.report.records import Records
from tasks.settings import settings_from_dict, write_params
from tests.report.browser import opened
from tests.report.conftest import HOSTILE


@pytest.fixture
def runs(records: Records) -> list[Run]:
    changed = copy.deepcopy(records)
    changed.findings["findings"][0].update(verdict="healthy")
    better = {"mean": 0.2, "low": 0.19, "high": 0.21}
    changed.comparison["tables"][0]["rows"][0]["metrics"]["ndcg_at_10"].update(better)
    both = {"experiment": {"models": ["gru", "xlstm"]}, "report": {"title": HOSTILE}}
    one = settings_from_dict(both)
    other = settings_from_dict(
        {"experiment": {"models": ["gru"]}, "train": {"gru": {"dropout": 0}}}
    )
    return [Run("project", one, records), Run("no-dropout", other, changed)]


def test_what_changed_is_listed(runs: list[Run]) -> None:
    changed = differences({run.name: run.settings for run in runs})
    assert set(changed) == {"experiment.models", "report.title", "train.gru.dropout"}
    page = render_comparison(runs)
    assert "no-dropout has the best model." in page
    assert "<li>train.gru.dropout: 0.3 → 0.0</li>" in page
    assert "Yes, the prepared data are the same." in page
    assert '<th scope="row">train.gru.dropout</th><td>0.3</td><td>0.0</td>' in page
    assert "0.2000 (0.1900 to 0.2100)" in page


def test_runs_whose_intervals_overlap_have_no_winner(runs: list[Run]) -> None:
    page = render_comparison([runs[0], dataclasses.replace(runs[0], name="again")])
    assert "None is clearly better." in page
    assert "All settings are the same." in page


def test_only_answers_that_differ_are_listed(runs: list[Run]) -> None:
    rows = verdict_rows(runs)
    assert [row[1:] for row in rows if row[1] != row[2]] == [("faulty", "healthy")]
    assert "2 questions have the same answer in all runs." in render_comparison(runs)


def test_other_data_are_told_and_never_called_comparable(runs: list[Run]) -> None:
    records = dataclasses.replace(
        runs[1].records, manifest={**runs[1].records.manifest, "data_hash": "other"}
    )
    page = render_comparison([runs[0], dataclasses.replace(runs[1], records=records)])
    assert "No, the data differ." in page
    assert "has the best model." not in page


def test_hostile_text_is_escaped(runs: list[Run]) -> None:
    records = dataclasses.replace(runs[0].records, findings={"headline": HOSTILE, "findings": []})
    page = render_comparison([dataclasses.replace(runs[0], records=records), runs[1]])
    assert HOSTILE not in page
    assert "&lt;/script&gt;&lt;script&gt;" in page


@pytest.mark.parametrize(
    ("scheme", "width"),
    [("light", 1200), ("dark", 1200), ("light", 380)],
    ids=["light", "dark", "phone"],
)
def test_in_a_browser(
    runs: list[Run], tmp_path: Path, browser: Any, scheme: str, width: int
) -> None:
    page = render_comparison(runs)
    with opened(browser, page, tmp_path, scheme=scheme, width=width) as (view, problems):
        view.wait_for_function(
            "document.querySelectorAll('.plot svg').length"
            " === document.querySelectorAll('[data-chart]').length"
        )
        assert view.locator("[data-chart]").count() == 5
        assert view.evaluate("document.documentElement.scrollWidth") <= width
        assert view.title() == "Compare project, no-dropout"
        assert problems == []


def test_the_command_writes_the_page_and_names_it(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "dvc.yaml").touch()
    for run in runs:
        folder = tmp_path if run.name == "project" else tmp_path / "runs" / run.name
        folder.mkdir(parents=True, exist_ok=True)
        write_params(run.settings, folder / "params.yaml")
    found = iter(run.records for run in runs)
    monkeypatch.setattr(compare_runs, "read_records", lambda *_: next(found))
    compare_runs.compare(tmp_path, ["project", "no-dropout"], True)
    told = json.loads(capsys.readouterr().out)
    assert told["settings"]["train.gru.dropout"] == {"project": 0.3, "no-dropout": 0.0}
    assert "Runs side by side" in Path(told["page"]).read_text(encoding="utf-8")
