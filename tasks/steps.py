"""Every stage as a Prefect task, for flows of your own.

The tasks run in the process of the flow and cache nothing: what is up to date is DVC's to decide,
and two caches disagree sooner or later. `flows.experiment` runs the same stages through DVC.

```python
from prefect import flow
from tasks import steps

@flow
def compare_two(workspace: str = "."):
    steps.fetch(workspace)
    steps.prepare(workspace)
    steps.check(workspace)
    for model in ("gru", "xlstm"):
        steps.train(workspace, model=model, seed=0)
    return steps.evaluate(workspace)
```
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.__main__ import run_stage


@task(cache_policy=NO_CACHE)
def fetch(workspace: str | Path) -> dict[str, Any]:
    """Get the raw log; see `run_stage` for workspace and result."""
    return run_stage("fetch", Path(workspace))


@task(cache_policy=NO_CACHE)
def prepare(workspace: str | Path) -> dict[str, Any]:
    """Check, sort, encode, split and pack the log."""
    return run_stage("prepare", Path(workspace))


@task(cache_policy=NO_CACHE)
def check(workspace: str | Path) -> dict[str, Any]:
    """Ask the exact questions about every neural model before any is trained."""
    return run_stage("check", Path(workspace))


@task(cache_policy=NO_CACHE, task_run_name="train {model} seed {seed}")
def train(workspace: str | Path, model: str, seed: int = 0) -> dict[str, Any]:
    """Train one model with one seed."""
    return run_stage("train", Path(workspace), model=model, seed=seed)


@task(cache_policy=NO_CACHE)
def evaluate(workspace: str | Path) -> dict[str, Any]:
    """Rank, measure and compare all models."""
    return run_stage("evaluate", Path(workspace))


@task(cache_policy=NO_CACHE)
def diagnose(workspace: str | Path) -> dict[str, Any]:
    """Answer the questions about data, model, training and evaluation."""
    return run_stage("diagnose", Path(workspace))


@task(cache_policy=NO_CACHE)
def report(workspace: str | Path) -> dict[str, Any]:
    """Write the report page."""
    return run_stage("report", Path(workspace))
