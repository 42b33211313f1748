"""Measures everything the report draws of data and models, and writes it as small JSON files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tasks.data.encoding import read_vocabulary
from tasks.data.prepared import PreparedData
from tasks.diagnostics.plots import data_shape, hidden, influence, inside, order
from tasks.diagnostics.plots.rates import learning_rate_response
from tasks.diagnostics.plots.sample import AVERAGED_USERS, choose_users, read_sample
from tasks.diagnostics.probe import Probe
from tasks.training.models import NeuralModel, NeuralRecommender, load_recommender, model_spec

PLOTS_FOLDER = Path("artifacts") / "diagnosis" / "plots"

SIGNIFICANT_DIGITS = 5
"""More can't be seen in a plot, and would make the page larger."""


def measure_plots(
    workspace: Path,
    *,
    models: Iterable[str],
    seed: int,
    model_under_test: str,
    num_sample_users: int,
    max_seq_len: int,
) -> dict[str, Any]:
    """Return the plots' data by name; what does not apply to the run is empty.

    Models with weights that are not finite are named as ``not_finite`` and left out.

    Args:
        workspace: Folder with prepared data and finished trainings.
        models: Names of the run's models; those without a finished neural training are left out.
        seed: Seed of the trainings to look at.
        model_under_test: The one looked into event by event; another neural one where it is not
            trained.
        num_sample_users: Users shown by name.
        max_seq_len: Most recent events models read, as declared.
    """
    data = PreparedData.load(workspace / "data" / "prepared")
    found: dict[str, Any] = {"data": data_shape.describe(data, max_seq_len)}
    trained = trained_models(workspace, models, seed)
    broken = [name for name, model in trained.items() if not _is_finite(model)]
    if broken:
        found["not_finite"] = broken
    trained = {name: model for name, model in trained.items() if name not in broken}
    average = choose_users(data, AVERAGED_USERS)
    if not trained or len(average) == 0:
        return found
    labels = _labels(workspace)
    users = read_vocabulary(workspace / "data" / "prepared" / "users.csv").raw_ids.to_list()
    longest = next(iter(trained.values())).max_seq_len
    many = read_sample(data, average, users, longest)
    few = read_sample(data, choose_users(data, num_sample_users), users, longest)
    histories = order.order_sample(data, longest, seed)
    counting, must_lose = order.counting_order_effect(data, histories)
    for name, model in trained.items():
        _extend(found, "order", order.order_effect(name, model, histories, must_lose))
        _extend(found, "lags", influence.gradient_by_lag(name, "trained", model, many))
        _extend(found, "norms", hidden.state_norms(name, model, many))
        _extend(found, "spectrum", hidden.embedding_spectrum(name, "trained", model))
        if len(few):
            _extend(found, "gates", _named(name, inside.gate_maps(model, few, labels)))
            _extend(found, "attention", _named(name, inside.attention_maps(model, few, labels)))
    _extend(found, "order", counting)
    chosen = model_under_test if model_under_test in trained else next(iter(trained))
    model, new, counts = trained[chosen], _untrained(trained[chosen], seed), data.item_counts
    _extend(found, "lags", influence.gradient_by_lag(chosen, "new", new, many))
    _extend(found, "spectrum", hidden.embedding_spectrum(chosen, "new", new))
    found["map"] = _named(chosen, hidden.embedding_map(model, counts.tolist(), labels))
    found["reach"] = {"map": hidden.reach_before_training(model, new, counts.tolist())}
    if len(few):
        found["paths"] = _named(chosen, hidden.trajectories(model, few, many, labels))
        found["reach"]["paths"] = hidden.usual_reach(model, many)
    return found


def trained_models(
    workspace: Path, models: Iterable[str], seed: int
) -> dict[str, NeuralRecommender]:
    """Return the finished neural trainings of a seed by name."""
    found = {}
    for name in models:
        folder = workspace / "artifacts" / "models" / name / f"seed_{seed}"
        if isinstance(model_spec(name), NeuralModel) and (folder / "model.json").is_file():
            recommender = load_recommender(folder)
            assert isinstance(recommender, NeuralRecommender)
            found[name] = recommender
    return found


def write_plots(workspace: Path, plots: Mapping[str, Any], probe: Probe | None = None) -> Path:
    """Write one JSON file per plot and return their folder.

    Args:
        workspace: Folder of the run.
        plots: As `measure_plots` returns them.
        probe: Of the program; in the deep mode the learning-rate response is measured too.
    """
    folder = workspace / PLOTS_FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    found = dict(plots)
    if probe is not None and probe.allows("deep"):
        found["rates"] = learning_rate_response(probe)
    for name, content in found.items():
        partial = folder / f".{name}.part"
        text = json.dumps(rounded(content), separators=(",", ":"), allow_nan=False)
        partial.write_text(text + "\n", encoding="utf-8")
        os.replace(partial, folder / f"{name}.json")
    return folder


def rounded(value: Any) -> Any:
    """Return nested values with floats cut to a few digits, and None where they are not finite.

    >>> rounded({"a": [1.23456789, float("nan")]})
    {'a': [1.2346, None]}
    """
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    if isinstance(value, float):
        short = float(f"{value:.{SIGNIFICANT_DIGITS}g}")
        return short if abs(short) < float("inf") else None
    return value


def _is_finite(model: NeuralRecommender) -> bool:
    return all(bool(parameter.isfinite().all()) for parameter in model.model.parameters())


def _labels(workspace: Path) -> list[str]:
    """Raw id by item id; entry 0 is padding's."""
    items = read_vocabulary(workspace / "data" / "prepared" / "items.csv")
    return ["", *items.raw_ids.to_list()]


def _untrained(model: NeuralRecommender, seed: int) -> NeuralRecommender:
    spec = model_spec(model.name)
    assert isinstance(spec, NeuralModel)
    return spec.build(model.num_items, model.settings, max_seq_len=model.max_seq_len, seed=seed)


def _named(model: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"model": model, **row} for row in rows]


def _extend(found: dict[str, Any], name: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        found.setdefault(name, []).extend(rows)
