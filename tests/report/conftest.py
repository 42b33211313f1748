"""Hand-made records of a small experiment, with a title that tries to break out of the page."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tasks.report.page import Provenance, render_page
from tasks.report.records import Records, Row, Training
from tasks.settings import Settings, settings_from_dict
from tests.report.browser import CHROMIUM_ARGUMENTS, find_browser

HOSTILE = "</script><script>document.title='broken'</script>"
ABOUT = Provenance("0" * 40, "make run")


CHECK: Row = {
    "name": "largest change",
    "value": 3.0,
    "unit": "output std",
    "limit": {"value": 1e-4, "source": "an identity"},
    "relation": "at_most",
    "verdict": "faulty",
    "where": HOSTILE,
    "missing": "",
    "proof": "",
}


def specs_of(page: str) -> dict[str, Any]:
    """What the plots of a page are drawn from, by the place they stand in."""
    found = re.findall(r'<script type="application/json" id="([\w-]+)">(.*?)</script>', page)
    return {id: json.loads(text) for id, text in found}


def plots(item: str = HOSTILE, user: str = HOSTILE) -> Row:
    """What the diagnosis measures for the plots, in small, with a hostile item and user."""
    each = [{"model": m, "part": "hidden state", "position": p, "value": 1.0 + p}
            for m in ("gru", "xlstm") for p in (1, 2)]  # fmt: skip
    memory = [{"model": "xlstm", "part": "block_0 memory c", "position": p, "value": 0.5 * p}
              for p in (1, 2)]  # fmt: skip
    return {
        "data": {
            "lengths": [{"low": 3, "high": 9, "users": 4}, {"low": 9, "high": 30, "users": 7}],
            "popularity": [{"place": 1, "events": 9, "share": 0.9, "targets": 0.25},
                           {"place": 2, "events": 1, "share": 1.0, "targets": 0.75}],
            "max_seq_len": 20,
        },
        "order": [{"model": "gru", "histories": h, "value": v, "low": 0.0, "high": 1.0, "limit": m}
                  for h, v, m in (("in order", 0.3, None), ("shuffled", 0.1, 0.25))],
        "lags": [{"model": "xlstm", "weights": w, "lag": lag, "value": 0.5**lag}
                 for w in ("trained", "new") for lag in range(3)],
        "norms": [*each, *memory],
        "spectrum": [{"model": "xlstm", "weights": w, "direction": d, "share": 0.5}
                     for w in ("trained", "new") for d in (1, 2)],
        "reach": {"map": 2.0, "paths": 3.0},
        "map": [{"model": "xlstm", "item": item, "events": n, "x": n, "y": -n} for n in (1, 5)],
        "paths": [{"model": "xlstm", "user": user, "position": p, "item": item, "x": p, "y": 0.0}
                  for p in (1, 2)],
        "gates": [{"model": "xlstm", "user": user, "position": p, "item": item,
                   "part": "block_0 forget gate", "value": 0.001} for p in (1, 2)],
        "attention": [{"model": m, "user": user, "layer": "block_0", "reader": 2, "read": p,
                       "item": item, "share": 0.5} for m in ("sasrec", "xlstm") for p in (1, 2)],
        "rates": [{"multiple": 0.0, "loss": 7.5}, {"multiple": 0.1, "loss": 7.0},
                  {"multiple": 1.0, "loss": 5.0}, {"multiple": 100.0, "loss": None}],
    }  # fmt: skip


def explanation(item: str = HOSTILE, user: str = HOSTILE) -> Row:
    return {
        "user": user,
        "model": "xlstm",
        "history": [
            {"item": item, "time": "1998-01-02", "influence": -0.25, "gradient": 0.5},
            {"item": "b", "time": "1998-01-03", "influence": 0.125, "gradient": 0.1},
        ],
        "recommended": [{"item": item, "score": 4.5}],
    }


def metric(mean: float) -> Row:
    return {"mean": mean, "low": mean - 0.01, "high": mean + 0.01, "seed_deviation": None}


def model_row(model: str, ndcg: float) -> Row:
    names = ("hit_rate_at_1", "hit_rate_at_10", "hit_rate_at_20", "mrr_at_10", "ndcg_at_10")
    metrics = {name: metric(ndcg) for name in names}
    return {"model": model, "num_seeds": 1, "num_users": 943, "metrics": metrics}


def pair(better: str, worse: str, difference: float, significant: bool) -> Row:
    return {
        "metric": "ndcg_at_10",
        "better": better,
        "worse": worse,
        "difference": difference,
        "low": difference - 0.01,
        "high": difference + 0.01,
        "p_value": 0.001,
        "p_holm": 0.004 if significant else 0.4,
        "is_significant": significant,
    }


@pytest.fixture
def table() -> Row:
    return {
        "split": "test",
        "ranking": "as_ranked",
        "seen_filtered": False,
        "rows": [model_row("gru", 0.08), model_row("xlstm", 0.075), model_row("transitions", 0.05)],
        "pairs": [
            pair("gru", "xlstm", 0.005, significant=False),
            pair("gru", "transitions", 0.03, significant=True),
            pair("xlstm", "transitions", 0.025, significant=True),
        ],
    }


def trainings() -> list[Training]:
    """One training per model, of three epochs and three recorded steps."""
    epochs = [
        {"epoch": n, "step": 10 * n, "train/loss": 7.0 - n, "val/ndcg_at_10": 0.01 * n}
        for n in (1, 2, 3)
    ]
    steps = [
        {"step": n, "grad/norm": 0.5 + n, "grad/block_0": 0.4, "update/block_0": 1e-3,
         "gate/block_0/input": 0.5, "grad/clipped": True}
        for n in (1, 20, 40)
    ]  # fmt: skip
    return [
        Training(model, 0, {"wall_seconds": 60.0, "num_parameters": 1234}, epochs, steps)
        for model in ("gru", "xlstm")
    ]


def findings() -> list[Row]:
    """A faulty, a healthy and an undetermined finding."""
    faulty = {
        "question": "order_and_flow",
        "number": "G11",
        "title": f"Does no position see its future? {HOSTILE}",
        "verdict": "faulty",
        "sentence": "Largest change is 3 output std.",
        "advice": ["Look at the mask."],
        "checks": [CHECK],
        "stage": "causal",
        "stages": ["causal", "core"],
        "evidence": {"largest": {"value": 3.0, "unit": HOSTILE}},
    }
    healthy = {
        **faulty,
        "question": "padding_handled",
        "number": "G4",
        "title": "Is padding inert?",
        "verdict": "healthy",
        "stage": None,
        "stages": ["pad"],
        "checks": [{**CHECK, "value": 0.0, "verdict": "healthy"}],
    }
    far_back = {**CHECK, "name": "gradient 9 events back", "value": 0.1, "verdict": "healthy"}
    unknown = {**CHECK, "value": None, "verdict": "undetermined", "missing": "run it deep"}
    undetermined = {
        **healthy,
        "question": "gradients_survive_time",
        "number": "X11",
        "title": "Do gradients reach far back?",
        "verdict": "undetermined",
        "checks": [far_back, unknown],
    }
    return [faulty, healthy, undetermined]


@pytest.fixture
def records(table: Row) -> Records:
    groups = [
        {"model": m, "split": "test", "ranking": "as_ranked", "group": g, "ndcg_at_10": 0.1}
        for m in ("gru", "xlstm")
        for g in (0.0, "1-4", "5+")
    ]
    return Records(
        comparison={"method": "Full ranking.", "best_possible": None, "tables": [table]},
        by_history_length=groups,
        by_item_popularity=groups,
        best_possible={},
        findings={
            "headline": "Future leaks.",
            "next_test": "run `assay diagnose --deep`",
            "question": "order_and_flow",
            "subject": "xlstm pipeline",
            "mode": "after_training",
            "findings": findings(),
            "errors": {},
        },
        manifest={
            "data_hash": "abc",
            "counts": {"users": 943, "items": 1682, "train_events": 98114},
            "settings": {"split": "leave_one_out"},
            "warnings": [{"id": "ties", "message": HOSTILE, "numbers": {}}],
            "leakage": [{"id": "rows_apart", "passed": True, "message": "no event twice"}],
        },
        source={"title": HOSTILE, "sha256": "f00"},
        trainings=trainings(),
        plots=plots(),
        checks={"xlstm": {"headline": HOSTILE}},
        explanations=[explanation()],
    )


@pytest.fixture
def settings() -> Settings:
    return settings_from_dict({"report": {"title": HOSTILE}})


@pytest.fixture
def page(records: Records, settings: Settings) -> str:
    return render_page(records, settings, "data: {}", ABOUT)


@pytest.fixture
def undiagnosed(records: Records) -> Records:
    return dataclasses.replace(records, findings={}, plots={}, checks={}, explanations=[])


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    executable = find_browser()
    if executable is None:
        pytest.skip("no Chromium on this machine: the page was not opened in a browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGUMENTS)
        yield started
        started.close()
