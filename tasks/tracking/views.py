"""Views of an experiment that MLflow's menu *Views* offers, and the links that open them.

MLflow keeps a saved view as a tag of the experiment: a name and the state of its pages. As they
open by themselves, those pages know no columns of metrics and no order; these views do.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tasks.tracking import address, state
from tasks.tracking.description import DESCRIPTION_TAG
from tasks.tracking.journal import Record
from tasks.tracking.parameters import GLANCE

if TYPE_CHECKING:
    from tasks.tracking.store import Store

TAG = "mlflow.sharedViewState."
LINKS_FILE = "mlflow_links.json"
LOCAL_SERVER = "http://127.0.0.1:5000"
METRIC = "test/ndcg_at_10"
COLUMNS = (
    *(f"metrics.`{name}`" for name in (METRIC, "test/hit_rate_at_10", "val_best/ndcg_at_10")),
    *(f"params.`model.{name}`" for name in ("num_layers", "dropout", "learning_rate")),
    "tags.`diagnosis`",
)
CHARTS = (
    ("BAR", f"{GLANCE}/test_ndcg_at_10"),
    ("LINE", f"{GLANCE}/val_ndcg_at_10"),
    ("LINE", f"{GLANCE}/train_loss"),
)
COMPARE = "All models side by side"


def save_views(store: Store, record: Record) -> None:
    """Save the views of the newest run, link the compare page, and note the links on disk.

    Args:
        store: The open store.
        record: ``parent`` (key of that run), ``time`` in milliseconds, ``workspace``.
    """
    parent = record["parent"]
    run_id, experiment = store.run_id(parent), store.experiment_id_of(parent)
    mine = f"tags.`mlflow.parentRunId` = '{run_id}'"
    children = store.client.search_runs([experiment], mine, order_by=[f"metrics.`{METRIC}` DESC"])
    for number, (name, title, shown) in enumerate(_views()):
        text = encode(title, record["time"] - number, {**_search(mine), **shown})
        store.client.set_experiment_tag(experiment, TAG + name, text)
    found = links(experiment, [run.info.run_id for run in children])
    _describe(store, run_id, found[COMPARE])
    folder = state.local_folder(Path(record["workspace"]))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LINKS_FILE).write_text(json.dumps(found, indent=1), encoding="utf-8")


def read_links(workspace: Path) -> dict[str, str]:
    """Addresses of what there is to look at, by title; empty where nothing was delivered yet."""
    try:
        found = json.loads((state.local_folder(workspace) / LINKS_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    base = address.without_password(uri).rstrip("/") if address.is_server(uri) else LOCAL_SERVER
    return {title: base + path for title, path in found.items()}


def links(experiment: str, children: list[str]) -> dict[str, str]:
    """Paths of MLflow's pages by title: the views, and the compare page of all children.

    >>> links("1", ["ab"])[COMPARE]
    '/#/compare-runs?runs=%5B%22ab%22%5D&experiments=%5B%221%22%5D'
    """
    runs = f"/#/experiments/{experiment}/runs?viewStateShareKey="
    paths = {title: f"{runs}{name}" for name, title, _ in _views()}
    ids, experiments = (quote(json.dumps(each)) for each in (children, [experiment]))
    compare = f"/#/compare-runs?runs={ids}&experiments={experiments}"
    modes = {title: "&compareRunsMode=CHART" for _, title, shown in _views() if _has_charts(shown)}
    return {title: path + modes.get(title, "") for title, path in paths.items()} | {
        COMPARE: compare
    }


def encode(title: str, time: int, shown: dict[str, Any]) -> str:
    """A view as MLflow's pages read it.

    >>> json.loads(encode("Mine", 5, {"orderByAsc": False}))["state"]
    '{"orderByAsc": false}'
    """
    view = {"name": title, "createdAt": time, "updatedAt": time, "state": json.dumps(shown)}
    return json.dumps(view)


def _views() -> list[tuple[str, str, dict[str, Any]]]:
    """Key, title and what is shown, of every view."""
    section = {"uuid": GLANCE, "name": "At a glance", "display": True, "isReordered": True}
    charts = [
        {
            "uuid": metric,
            "type": kind,
            "metricKey": metric,
            "selectedMetricKeys": [metric],
            "metricSectionId": GLANCE,
            "runsCountToCompare": 20,
            "xAxisKey": "step",
            "useGlobalXaxisKey": True,
            "useGlobalLineSmoothing": True,
        }
        for kind, metric in CHARTS
    ]
    return [
        ("assay-models", "Newest run: models", {"selectedColumns": list(COLUMNS)}),
        (
            "assay-curves",
            "Newest run: curves",
            {
                "compareRunSections": [section],
                "compareRunCharts": charts,
                "isAccordionReordered": True,
                "runsHiddenMode": "FIRST_20_RUNS",
            },
        ),
    ]


def _has_charts(shown: dict[str, Any]) -> bool:
    return "compareRunCharts" in shown


def _search(runs: str) -> dict[str, Any]:
    return {
        "searchFilter": runs,
        "orderByKey": f"metrics.`{METRIC}`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
    }


def _describe(store: Store, run_id: str, path: str) -> None:
    """Add the link to the compare page to the description of the parent run, once."""
    text = store.client.get_run(run_id).data.tags.get(DESCRIPTION_TAG, "")
    if text and COMPARE not in text:
        store.client.set_tag(run_id, DESCRIPTION_TAG, f"[{COMPARE}]({path[1:]})\n\n{text}")
