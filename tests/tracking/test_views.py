"""MLflow's menu of views holds the newest run, and the links on disk open them."""

from __future__ import annotations

import json
import time
import urllib.parse
from pathlib import Path
from typing import Any

import pytest

from tasks import tracking
from tasks.settings import Settings
from tasks.tracking import companion, delivery
from tasks.tracking.description import DESCRIPTION_TAG
from tasks.tracking.experiment import DELIVER_LATER
from tasks.tracking.parameters import FIRST_METRIC
from tasks.tracking.views import COMPARE, TAG, read_links
from tests.tracking.conftest import children, epoch_row, parents, train, write_evaluation

RANKS = {"popularity": [3, 3, 20, 3], "gru": [1, 1, 20, 2]}
ROW = {"model": "gru", "metrics": {"ndcg_at_10": {"mean": 0.25, "low": 0.2, "high": 0.31}}}
MAX_TAG = 5000
"""Longest value MLflow's database takes for a tag of an experiment."""


def finish(settings: Settings, workspace: Path) -> None:
    """Train, evaluate and report."""
    for model in RANKS:
        train(settings, workspace, model)
    write_evaluation(workspace, RANKS)
    comparison = workspace / "artifacts" / "evaluation" / "comparison.json"
    comparison.write_text(json.dumps({"tables": [{"rows": [ROW]}]}))
    tracking.log_evaluation(settings, workspace)
    tracking.log_report(settings, workspace)


def views(client: Any) -> dict[str, dict[str, Any]]:
    """State of every saved view by its name."""
    tags = client.get_experiment_by_name("toy").tags
    values = [value for name, value in tags.items() if name.startswith(TAG)]
    assert all(len(value) <= MAX_TAG for value in values)
    return {view["name"]: json.loads(view["state"]) for view in map(json.loads, values)}


def test_views_hold_the_models_of_the_newest_run_best_first(
    settings: Settings, workspace: Path, client: Any
) -> None:
    finish(settings, workspace)
    finish(settings, workspace)

    newest = parents(client)[1]
    found = views(client)
    assert set(found) == {"Newest run: models", "Newest run: curves"}
    for view in found.values():
        listed = client.search_runs(
            [newest.info.experiment_id],
            view["searchFilter"],
            order_by=[f"{view['orderByKey']} DESC"],
        )
        assert [run.info.run_name for run in listed] == ["gru seed 0", "popularity seed 0"]
    names = {name for run in listed for name in run.data.metrics}
    assert {chart["metricKey"] for chart in found["Newest run: curves"]["compareRunCharts"]} < names
    columns = found["Newest run: models"]["selectedColumns"]
    metrics = {each.split("`")[1] for each in columns if each.startswith("metrics")}
    assert {"test/ndcg_at_10", "val_best/ndcg_at_10"} < metrics <= names


@pytest.mark.parametrize("later", [False, True], ids=["at-once", "delivered-by-a-flow"])
def test_the_compare_page_of_all_models_is_linked(
    settings: Settings,
    workspace: Path,
    client: Any,
    later: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if later:
        monkeypatch.setenv(DELIVER_LATER, "1")
    finish(settings, workspace)
    delivery.deliver(workspace)

    (parent,) = parents(client)
    runs = children(client, parent)
    address = read_links(workspace)[COMPARE]
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(address.replace("#/", "")).query)
    best_first = [runs[name].info.run_id for name in ("gru seed 0", "popularity seed 0")]
    assert json.loads(query["runs"][0]) == best_first
    assert json.loads(query["experiments"][0]) == [parent.info.experiment_id]
    description = parent.data.tags[DESCRIPTION_TAG]
    assert address.partition("/#")[2] in description
    assert "0.2000 to 0.3100" in description


def test_links_lead_to_the_server_that_has_the_runs(
    settings: Settings, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_links(workspace) == {}
    finish(settings, workspace)
    assert all(url.startswith("http://127.0.0.1:5000/#/") for url in read_links(workspace).values())

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.example.org/")
    links = read_links(workspace)
    assert all(url.startswith("https://mlflow.example.org/#/") for url in links.values())
    assert "compareRunsMode=CHART" in links["Newest run: curves"]


def test_the_first_group_of_metrics_is_on_every_run_and_first(
    settings: Settings, workspace: Path, client: Any
) -> None:
    finish(settings, workspace)

    (parent,) = parents(client)
    groups = {}
    for run in (parent, *children(client, parent).values()):
        groups[run.info.run_name] = sorted({name.partition("/")[0] for name in run.data.metrics})
    assert {found[0] for found in groups.values()} == {"at_a_glance"}
    assert groups["gru seed 0"][-1] == "watch"
    for run in children(client, parent).values():
        assert next(iter(run.data.metrics)) == FIRST_METRIC
    unfolded = children(client, parent)["gru seed 0"].data.tags["mlflow.runType"]
    assert unfolded == "evaluation"


def test_the_machine_is_measured_from_the_first_epoch_on(
    settings: Settings, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(companion, "SAMPLE_SECONDS", 0.01)
    with tracking.model_run(settings, workspace, "gru", 0) as run:
        time.sleep(0.2)
        assert run.log.progress("system") == (-1, 0)
        run.on_epoch(epoch_row(1))
        deadline = time.monotonic() + 60
        while run.log.progress("system") == (-1, 0) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert run.log.progress("system")[1] > 0
