"""The Prefect UI shows metrics, verdicts, the report, and names that say what happened."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows import artifacts
from flows.run_logs import ExperimentFailedError
from tasks.diagnostics.diagnose_stage import write_document, write_findings
from tasks.diagnostics.engine import Diagnosis, diagnose_findings
from tasks.diagnostics.finding import Limit, exact
from tasks.diagnostics.questions import QUESTIONS

pytestmark = pytest.mark.xdist_group("prefect")
SENTENCE = "gru beats xlstm on ndcg_at_10 by 0.0200 [0.0100, 0.0300], p = 0.003: significant"


def diagnosis(faulty: int) -> Diagnosis:
    """Answers of two questions, the first `faulty` of them faulty."""
    made = [
        question.finding(
            None,
            exact(
                "wrong rows", float(number < faulty), Limit(0.0, "rows"), question.stages[0], "look"
            ),
        )
        for number, question in enumerate(QUESTIONS[:2])
    ]
    return diagnose_findings("gru pipeline", "exact", made)


@pytest.fixture
def evaluated(toy: Path) -> Path:
    """The toy project with what the stages of a real one leave."""
    for name in ("evaluation", "diagnosis", "report"):
        (toy / "artifacts" / name).mkdir(parents=True)
    (toy / "artifacts" / "evaluation" / "summary.csv").write_text(
        "model,ndcg_at_10,significantly_beats\ngru,0.0812345,xlstm\nxlstm,0.06,\n"
    )
    document = {"tables": [{"sentences": [SENTENCE, "gru beats xlstm on hit_rate_at_10"]}]}
    (toy / "artifacts" / "evaluation" / "comparison.json").write_text(json.dumps(document))
    write_findings(toy, diagnosis(faulty=1))
    (toy / "artifacts" / "report" / "report.html").write_text("<p>A report</p>")
    return toy


def test_a_flow_leaves_its_artifacts_and_a_telling_name(
    run_experiment: Callable[..., Any], evaluated: Path
) -> None:
    from prefect.artifacts import Artifact
    from prefect.client.orchestration import get_client

    result = run_experiment(use_dvc=False)

    assert set(result.outcomes.values()) == {"ran"}
    assert (evaluated / "evaluation.txt").exists()
    assert not (evaluated / "dvc.lock").exists()
    table = Artifact.get("test-metrics")
    assert json.loads(table.data)[0]["ndcg_at_10"] == 0.08123
    summary = Artifact.get("summary").data
    assert f"- {SENTENCE}" in summary
    assert "hit_rate_at_10" not in summary
    assert diagnosis(faulty=1).headline in summary
    answers = Artifact.get("diagnosis")
    assert diagnosis(faulty=1).headline in answers.description
    first, second = json.loads(answers.data)
    assert (first["verdict"], first["no"], first["next step"]) == (
        "faulty",
        QUESTIONS[0].number,
        "look",
    )
    assert second["verdict"] == "healthy"
    assert "| train@gru-0 | ran |" in summary
    assert (evaluated / "artifacts" / "report" / "report.html").as_uri() in Artifact.get(
        "report"
    ).data
    wanted = {"fetch", "train@gru-0", "train@xlstm-0", "evaluate"}
    with get_client(sync_client=True) as client:
        assert "toy: best gru 0.0812, 4 ran" in {run.name for run in client.read_flow_runs()}
        # Task runs reach the database through a queue of events.
        deadline = time.monotonic() + 30
        while not wanted <= {run.name for run in client.read_task_runs()}:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_a_stopped_run_shows_what_stopped_it(run_experiment: Callable[..., Any], toy: Path) -> None:
    from prefect.artifacts import Artifact

    folder = toy / "artifacts" / "checks" / "findings"
    folder.mkdir(parents=True)
    write_document(folder / "xlstm.json", diagnosis(faulty=2))
    (toy / "fetch.py").write_text("raise SystemExit(3)")

    with pytest.raises(ExperimentFailedError) as caught:
        run_experiment()

    assert caught.value.exit_code == 3
    rows = json.loads(Artifact.get("diagnosis").data)
    assert [row["verdict"] for row in rows] == ["faulty", "faulty"]
    assert rows[0]["model"] == "gru pipeline"


def test_a_workspace_without_results_is_described_too(tmp_path: Path) -> None:
    assert artifacts.read_summary(tmp_path) == []
    assert artifacts.run_name(tmp_path, {"fetch": "ran", "a": "unchanged", "b": "unchanged"}) == (
        f"{tmp_path.name}: 2 unchanged, 1 ran"
    )
    assert "| fetch | ran |" in artifacts.summary_text(tmp_path, {"fetch": "ran"})
