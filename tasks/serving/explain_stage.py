"""Explains the recommendations of a few users, for the report."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from tasks.serving.explain import explain
from tasks.serving.recommend import Recommendation
from tasks.serving.service import Query, Service
from tasks.serving.workspace import Workspace, choose_model, trained_models
from tasks.settings import Settings
from tasks.training.models import MODELS, NeuralModel

EXPLANATIONS = Path("artifacts") / "report" / "explanations.json"
NUM_RECOMMENDED = 5


def run(settings: Settings, workspace: Path) -> list[dict[str, Any]]:
    """Write artifacts/report/explanations.json for `report.num_sample_users` users.

    Explained are the best model on validation and the model under test, where they have gradients;
    the users are spread evenly over those of the test split.

    Args:
        settings: All settings.
        workspace: Folder of the experiment, with data/prepared and artifacts/models.

    Returns:
        What was written: per user and model ``user``, ``model``, ``history`` (``item``, ``time``,
        ``influence``, ``gradient`` of each event shown, for the first recommendation) and
        ``recommended`` (``item``, ``score``).
    """
    table = settings.recommend.item_table
    written: list[dict[str, Any]] = []
    for name in _models(settings, workspace):
        opened = Workspace.open(workspace, name, None, workspace / table if table else None)
        for user in sample_users(opened, settings.report.num_sample_users):
            query = opened.query_of_user(user)
            if len(query.history.items) == 0:
                continue
            (best,) = opened.service.answer([query], top_k=NUM_RECOMMENDED)
            about = explained(opened.service, query, best)
            written.append({"user": user, "model": name, **about})
    path = workspace / EXPLANATIONS
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(written, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
    return written


def _models(settings: Settings, workspace: Path) -> list[str]:
    """The best model on validation and the one under test, as far as trained networks."""
    trained = {each.name for each in trained_models(workspace)}
    if not trained or not settings.report.num_sample_users:
        return []
    names = [choose_model(workspace).name, settings.diagnose.model]
    is_network = {spec.name: isinstance(spec, NeuralModel) for spec in MODELS}
    return [name for name in dict.fromkeys(names) if name in trained and is_network[name]]


def sample_users(workspace: Workspace, count: int) -> list[str]:
    """Raw ids of at most `count` users, spread evenly over those of the test split."""
    users = workspace.users.data.test.users
    places = np.unique(np.linspace(0, len(users) - 1, min(count, len(users))).astype(np.int64))
    return workspace.users.names(users[places])


def explained(service: Service, query: Query, best: Recommendation) -> dict[str, Any]:
    """Explain the first item of an answer, with names and readable times, as JSON holds it.

    ``gradient`` is null for models without gradients, ``time`` empty where it is not known.
    """
    found = explain(service.model, query.history, best.items[0], service.max_len)
    name = service.catalogue.name
    length = len(found.influence)
    times = [None] * length if found.events.times is None else found.events.times.tolist()
    gradient = [None] * length if found.gradient is None else found.gradient.tolist()
    events = zip(
        found.events.items.tolist(), times, found.influence.tolist(), gradient, strict=True
    )
    return {
        "history": [
            {"item": name(item), "time": time_text(time), "influence": moved, "gradient": pull}
            for item, time, moved, pull in events
        ],
        "recommended": [
            {"item": name(item), "score": score}
            for item, score in zip(best.items, best.scores, strict=True)
        ],
    }


def time_text(microseconds: int | None) -> str:
    """A time as people read it, in UTC; empty where it is not known.

    >>> time_text(2_500_000), time_text(None)
    ('1970-01-01 00:00:02', '')
    """
    if microseconds is None:
        return ""
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    except OverflowError:  # beyond the year 9999
        return f"{microseconds / 1e6:.0f} s"
    return f"{moment:%Y-%m-%d %H:%M:%S}"
