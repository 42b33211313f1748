"""Hand-made records of a small experiment, with a title that tries to break out of the page."""

from __future__ import annotations

import dataclasses

import pytest

from tasks.report.records import Records, Row, Training

HOSTILE = "</script><script>document.title='broken'</script>"


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


@pytest.fixture
def records(table: Row) -> Records:
    epochs = [
        {"epoch": n, "step": 10 * n, "train/loss": 7.0 - n, "val/ndcg_at_10": 0.01 * n}
        for n in (1, 2, 3)
    ]
    steps = [
        {"step": n, "grad/norm": 0.5 + n, "grad/block_0": 0.4, "update/block_0": 1e-3,
         "gate/block_0/input": 0.5, "grad/clipped": True}
        for n in (1, 20, 40)
    ]  # fmt: skip
    check = {
        "name": "largest change",
        "value": 3.0,
        "unit": "output std",
        "limit": {"value": 1e-4, "source": "an identity"},
        "relation": "at_most",
        "verdict": "faulty",
    }
    finding = {
        "question": "order_and_flow",
        "number": "G11",
        "title": f"Does no position see its future? {HOSTILE}",
        "verdict": "faulty",
        "sentence": "Largest change is 3 output std.",
        "advice": ["Look at the mask."],
        "checks": [check],
    }
    healthy = {
        **finding,
        "question": "padding_handled",
        "number": "G4",
        "title": "Is padding inert?",
        "verdict": "healthy",
        "checks": [{**check, "value": 0.0, "verdict": "healthy"}],
    }
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
        findings={"headline": "Future leaks.", "next_test": "none", "findings": [finding, healthy]},
        manifest={
            "data_hash": "abc",
            "counts": {"users": 943, "items": 1682, "train_events": 98114},
            "settings": {"split": "leave_one_out"},
            "warnings": [{"id": "ties", "message": HOSTILE, "numbers": {}}],
            "leakage": [{"id": "rows_apart", "passed": True, "message": "no event twice"}],
        },
        source={"title": HOSTILE, "sha256": "f00"},
        trainings=[
            Training(model, 0, {"wall_seconds": 60.0, "num_parameters": 1234}, epochs, steps)
            for model in ("gru", "xlstm")
        ],
    )


@pytest.fixture
def undiagnosed(records: Records) -> Records:
    return dataclasses.replace(records, findings={})
