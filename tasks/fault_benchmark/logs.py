"""Logs the clean program runs on: synthetic ones, and samples of real ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tasks.data.readers import read_interactions
from tasks.data.schema import split_valid
from tasks.data.synthetic import build_generator, sample_log
from tasks.diagnostics.subject import RawLog
from tasks.fault_benchmark import log_edits

USERS_OF_REAL_LOGS = 150
LONGEST_REAL_HISTORY = 60

LOG_SETTINGS: dict[str, Any] = {
    "num_users": 160,
    "num_items": 60,
    "min_length": 5,
    "max_length": 22,
    "zipf_exponent": 1.0,
    "order_weight": 0.7,
}
"""Settings of the synthetic log and their defaults; a real log takes none of them."""

EDITS: dict[str, Callable[[RawLog, Any, np.random.Generator], RawLog]] = {
    "repeat_share": log_edits.repeat_items,
    "blockbuster_share": log_edits.add_blockbuster,
    "equal_prefixes": log_edits.share_prefixes,
    "three_event_users": log_edits.shorten_users,
    "rare_items": log_edits.add_rare_items,
    "cold_items": log_edits.add_cold_items,
    "equal_times": log_edits.merge_times,
    "longer_stay": log_edits.stretch_times,
    "renamed": log_edits.rename,
    "row_seed": log_edits.shuffle_rows,
}
"""Changes a log can be given, by the setting that asks for them, in the order they are made."""


@dataclass(frozen=True)
class LogSource:
    """Where logs come from.

    Attributes:
        name: Names the data in every row of results.
        make: (seed, settings) -> log; settings are those of `LOG_SETTINGS`.
        settings: Settings it understands besides `EDITS`.
    """

    name: str
    make: Callable[[int, Mapping[str, Any]], RawLog]
    settings: frozenset[str] = frozenset()

    def log(self, seed: int, settings: Mapping[str, Any]) -> RawLog:
        """Return the log of a seed under the settings that concern it.

        Raises:
            ValueError: A setting of synthetic logs is asked of a real one.
        """
        if refused := sorted(set(settings) & set(LOG_SETTINGS) - self.settings):
            raise ValueError(
                f"the log {self.name!r} is what it is; {refused} can be set for synthetic ones."
            )
        log = self.make(seed, {name: settings.get(name, v) for name, v in LOG_SETTINGS.items()})
        rng = np.random.default_rng([seed, 7])
        for name, edit in EDITS.items():
            if name in settings:
                log = edit(log, settings[name], rng)
        return log


def synthetic_log(seed: int, settings: Mapping[str, Any]) -> RawLog:
    """Draw a log with known order, in shuffled row order as an export has it."""
    order = settings["order_weight"]
    generator = build_generator(
        num_items=settings["num_items"],
        num_tastes=4,
        mixture={"popularity": 0.6 * (1 - order), "taste": 0.4 * (1 - order), "order1": order},
        zipf_exponent=settings["zipf_exponent"],
        lag=3,
        branching=4,
        seed=seed,
    )
    pieces = sample_log(
        generator,
        num_users=settings["num_users"],
        min_length=settings["min_length"],
        max_length=settings["max_length"],
        seed=seed,
    )
    frame = pl.concat(list(pieces))
    log = RawLog(
        user=frame["user_id"].to_numpy().astype(str),
        item=frame["item_id"].to_numpy().astype(str),
        time=frame["timestamp"].to_numpy() * 1_000_000,
    )
    return log_edits.shuffle_rows(log, seed, np.random.default_rng(seed))


SYNTHETIC = LogSource("synthetic", synthetic_log, frozenset(LOG_SETTINGS))


def real_log(path: Path) -> LogSource:
    """Return samples of a log on disk: other users for every seed.

    Users with long histories are left out, for the sake of speed.

    Args:
        path: A log in any format the pipeline reads.
    """
    frame, _ = split_valid(read_interactions(path)[0])
    user = frame["user_id"].to_numpy().astype(str)
    item = frame["item_id"].to_numpy().astype(str)
    time = frame["timestamp"].to_numpy()
    _, code = np.unique(user, return_inverse=True)
    lengths = np.bincount(code)
    usable = np.flatnonzero((lengths >= 3) & (lengths <= LONGEST_REAL_HISTORY))

    def sample(seed: int, settings: Mapping[str, Any]) -> RawLog:
        rng = np.random.default_rng(seed)
        size = min(USERS_OF_REAL_LOGS, len(usable))
        chosen = np.isin(code, rng.choice(usable, size, replace=False))
        return RawLog(user[chosen], item[chosen], time[chosen])

    return LogSource(path.name.split(".")[0], sample)
