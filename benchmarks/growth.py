"""How costs grow with the work: `python -m benchmarks.growth`.

Around one small log, one of users, items, events per user, window and width grows by factors of
two or four while the others stay. Measured in processor seconds, the median of rounds in which all
sizes take turns: reading and preparing a log (of sixteen times the users), one training epoch of a
small xLSTM, and full-ranking validation. The slope is that of a straight line through the
logarithms: 1 is linear, 0 does not grow. Writes `benchmarks/results/speed/growth.json` and
`docs/images/growth.svg`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from torch import nn

from benchmarks import kept
from tasks.data.build import build_prepared
from tasks.data.prepared import PreparedData
from tasks.data.readers import read_interactions
from tasks.data.recipe import Recipe
from tasks.data.schema import split_valid
from tasks.settings import TrainSettings
from tasks.training.assemble import assemble
from tasks.training.loop import train

CHART = kept.ROOT / "docs" / "images" / "growth.svg"
PARTS = ("prepare", "epoch", "evaluation")
FIRST_SECOND = 1_500_000_000
SECONDS_PER_YEAR = 31_536_000
PREPARE_FACTOR = 16
"""So many times the users are prepared: the fixed cost of a small log would hide its growth."""


class Size(NamedTuple):
    """How much work there is."""

    users: int = 400
    items: int = 500
    events: int = 40
    """Per user."""
    window: int = 50
    width: int = 32


GROWN: dict[str, list[int]] = {
    "users": [400, 800, 1600],
    "items": [500, 2000, 8000],
    "events": [40, 80, 160],
    "window": [25, 50, 100],
    "width": [32, 64, 128],
}
"""Sizes by what grows. Events per user grow the log; windows of 50 hold them all."""


def slope(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Slope of the straight line through the logarithms.

    >>> slope([1, 2, 4], [3, 6, 12]), slope([1, 2, 4], [5, 5, 5])
    (1.0, 0.0)
    """
    return round(float(np.polyfit(np.log(sizes), np.log(costs), 1)[0]), 2) + 0.0


def measure(size: Size, folder: Path) -> dict[str, float]:
    """Processor seconds of every part for one size."""
    large = size._replace(users=PREPARE_FACTOR * size.users)
    seconds = _prepare(large, folder)
    _prepare(size, folder)
    data = PreparedData.load(folder)
    settings = TrainSettings()
    shared = settings.shared.model_dump() | {"max_seq_len": size.window, "max_epochs": 1}
    section = settings.xlstm.model_dump() | {"embedding_dim": size.width}
    trial = assemble("xlstm", data, shared, section)
    validations = []

    def validate(model: nn.Module) -> Mapping[str, float]:
        began = time.process_time()
        metrics = trial.parts.validate(model)
        validations.append(time.process_time() - began)
        return metrics

    started = time.process_time()
    train(replace(trial.parts, validate=validate), trial.plan)
    whole = time.process_time() - started
    validated = sum(validations)
    return {"prepare": seconds, "epoch": whole - validated, "evaluation": validated}


def measure_all(rounds: int, names: Sequence[str]) -> dict[str, dict[str, dict[str, float]]]:
    """Median seconds by what grows, size and part, all sizes in turn."""
    sizes = {
        (name, value): Size()._replace(**{name: value}) for name in names for value in GROWN[name]
    }
    found: dict[tuple[str, int], list[dict[str, float]]] = {key: [] for key in sizes}
    with tempfile.TemporaryDirectory() as place:
        measure(Size(), Path(place) / "prepared")
        for _ in range(rounds):
            for key, size in sizes.items():
                found[key].append(measure(size, Path(place) / "prepared"))
    return {
        name: {
            str(value): {
                part: round(statistics.median(row[part] for row in found[name, value]), 4)
                for part in PARTS
            }
            for value in GROWN[name]
        }
        for name in names
    }


def slopes(seconds: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Slope of every part by what grows."""
    return {
        name: {
            part: slope([float(size) for size in rows], [row[part] for row in rows.values()])
            for part in PARTS
        }
        for name, rows in seconds.items()
    }


def draw(seconds: dict[str, dict[str, dict[str, float]]], path: Path) -> None:
    """Draw one small panel per growing size, both axes logarithmic."""
    import altair as alt

    rows = [
        {"grows": name, "size": int(size), "part": part, "seconds": cost[part]}
        for name, sizes in seconds.items()
        for size, cost in sizes.items()
        for part in PARTS
    ]
    panel = (
        alt.Chart(alt.Data(values=rows))
        .mark_line(point=True)
        .encode(
            x=alt.X("size:Q", scale=alt.Scale(type="log", nice=False), title=None).axis(
                values=sorted({row["size"] for row in rows})
            ),
            y=alt.Y("seconds:Q", scale=alt.Scale(type="log"), title="processor seconds"),
            color=alt.Color("part:N", sort=list(PARTS), title=None),
        )
        .properties(width=130, height=150)
    )
    chart = panel.facet(column=alt.Column("grows:N", sort=list(GROWN), title=None))
    path.parent.mkdir(parents=True, exist_ok=True)
    chart.resolve_scale(x="independent").configure(background="white").save(path)


def _prepare(size: Size, folder: Path) -> float:
    """Prepare a random log; the processor seconds of reading and preparing it."""
    generator = np.random.default_rng(0)
    events = size.users * size.events
    log = folder.parent / "log.csv"
    pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(size.users), size.events),
            "item_id": generator.integers(size.items, size=events),
            "timestamp": FIRST_SECOND + generator.integers(SECONDS_PER_YEAR, size=events),
        }
    ).write_csv(log)
    started = time.process_time()
    frame, _ = read_interactions(log)
    frame, quarantine = split_valid(frame)
    build_prepared(folder, frame, Recipe(), quarantine=quarantine)
    return time.process_time() - started


def main() -> None:
    """Measure, draw and print the slopes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--only", choices=list(GROWN), help="measure one again, keep the others")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = [options.only] if options.only else list(GROWN)
    seconds = kept.read("growth").get("seconds", {}) | measure_all(options.rounds, names)
    found = slopes(seconds)
    kept.write({"seconds": seconds, "slopes": found}, kept.SPEED / "growth.json")
    draw(seconds, CHART)
    for name, row in found.items():
        print(f"{name:<8}" + "".join(f"  {part} {value:5.2f}" for part, value in row.items()))


if __name__ == "__main__":
    main()
