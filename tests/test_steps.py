"""Stages as Prefect tasks run the same core as the command of a DVC stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks import steps


@pytest.mark.parametrize("name", ["fetch", "prepare", "check", "evaluate", "diagnose", "report"])
def test_a_task_runs_its_stage(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, ...]] = []
    monkeypatch.setattr(steps, "run_stage", lambda *a, **k: seen.append((*a, k)) or {"done": name})

    assert getattr(steps, name).fn(str(tmp_path)) == {"done": name}
    assert seen == [(name, tmp_path, {})]


def test_a_training_task_passes_model_and_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Any, ...]] = []
    monkeypatch.setattr(steps, "run_stage", lambda *a, **k: seen.append((*a, k)) or {})

    steps.train.fn(tmp_path, model="gru", seed=3)

    assert seen == [("train", tmp_path, {"model": "gru", "seed": 3})]


def test_nothing_is_cached_by_prefect() -> None:
    from prefect.cache_policies import NO_CACHE

    names = ("fetch", "prepare", "check", "train", "evaluate", "diagnose", "report")
    assert all(getattr(steps, name).cache_policy == NO_CACHE for name in names)
