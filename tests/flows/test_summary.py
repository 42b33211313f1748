"""What a run says at its end: the diagnosis, and the cheapest thing to do next."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows import launch, summary
from tasks.diagnostics.diagnose_stage import write_findings
from tasks.diagnostics.engine import diagnose_findings
from tasks.diagnostics.finding import Limit, exact
from tasks.diagnostics.questions import QUESTIONS
from tasks.settings import Settings
from tasks.tracking.views import COMPARE

VALUE = {"mean": 0.1, "low": 0.05, "high": 0.15}
ROW = {"model": "gru", "num_seeds": 1, "num_users": 60}


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A folder with the evaluation of one model."""
    metrics = {"ndcg_at_10": VALUE, "hit_rate_at_10": VALUE}
    table = {"seen_filtered": False, "rows": [ROW | {"metrics": metrics}], "pairs": []}
    folder = tmp_path / "artifacts" / "evaluation"
    folder.mkdir(parents=True)
    (folder / "comparison.json").write_text(json.dumps({"tables": [table]}))
    return tmp_path


def found(workspace: Path, value: float) -> str:
    question = QUESTIONS[1]
    check = exact(
        "wrong rows", value, Limit(0.0, "rows"), question.stages[0], "look at make_batches"
    )
    diagnosis = diagnose_findings("gru pipeline", "exact", [question.finding(None, check)])
    write_findings(workspace, diagnosis)
    return diagnosis.headline


def test_a_fault_is_named_with_the_next_test(workspace: Path, capsys) -> None:
    headline = found(workspace, 3.0)

    summary.print_summary(Settings(), workspace, as_json=False)
    printed = capsys.readouterr().out
    assert f"Diagnosis: {headline}" in printed
    assert "Most probable fault: stage align" in headline
    assert "Cheapest next test: look at make_batches" in printed

    values = summary.summary_values(Settings(), workspace)
    assert (values["diagnosis"], values["next_test"]) == (headline, "look at make_batches")


def test_where_nothing_was_found_no_test_is_proposed(workspace: Path, capsys) -> None:
    headline = found(workspace, 0.0)

    summary.print_summary(Settings(), workspace, as_json=False)

    printed = capsys.readouterr().out
    assert headline.startswith("Nothing found")
    assert headline in printed
    assert "next test" not in printed


def test_without_a_diagnosis_the_command_is_named(workspace: Path, capsys) -> None:
    summary.print_summary(Settings(), workspace, as_json=False)
    assert "not run yet (assay diagnose)" in capsys.readouterr().out


def test_the_pages_of_mlflow_that_show_the_run_are_named(workspace: Path, capsys) -> None:
    summary.print_summary(Settings(), workspace, as_json=False)
    assert "then open http://127.0.0.1:5000\n" in capsys.readouterr().out

    (workspace / ".assay").mkdir()
    links = {"Newest run: models": "/#/experiments/1/runs", COMPARE: "/#/" + "x" * 200}
    (workspace / ".assay" / "mlflow_links.json").write_text(json.dumps(links))
    summary.print_summary(Settings(), workspace, as_json=False)
    printed = capsys.readouterr().out
    assert "http://127.0.0.1:5000/#/experiments/1/runs  newest run: models\n" in printed
    assert COMPARE.lower() not in printed.lower()
    assert set(summary.summary_values(Settings(), workspace)["mlflow"]) == set(links)
    assert launch.newest_views(workspace, 5001)[0] == (
        "  Newest run: models: http://127.0.0.1:5001/#/experiments/1/runs"
    )


def test_no_verdict_is_cut_off_where_no_terminal_says_how_wide_it_is(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = workspace / "artifacts" / "evaluation" / "comparison.json"
    content = json.loads(path.read_text())
    table = content["tables"][0]
    table["rows"].append({**table["rows"][0], "model": "logistic_regression"})
    pair = {"metric": "ndcg_at_10", "better": "gru", "worse": "logistic_regression"}
    numbers = {"difference": 0.1, "low": 0.05, "high": 0.2, "p_holm": 0.0021}
    table["pairs"] = [{**pair, **numbers, "is_significant": True}]
    path.write_text(json.dumps(content))

    summary.print_summary(Settings(), workspace, as_json=False)

    printed = capsys.readouterr().out
    assert "worse, p = 0.0021" in printed
    assert "…" not in printed
