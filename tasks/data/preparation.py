"""The pure chain from a valid log to packed arrays: filter, order, split, encode, pack."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from tasks.data.encoding import Vocabulary, fit_vocabulary
from tasks.data.events import Events, list_raw_ids, to_events
from tasks.data.filters import filter_corpus, mask_duplicates, mask_rated, mask_repeats
from tasks.data.ordering import TieStatistics, measure_ties, sort_events
from tasks.data.recipe import Recipe
from tasks.data.sequences import Arrays, pack_examples, pack_sequences
from tasks.data.splits import (
    ROLES,
    TRAIN,
    Split,
    SplitError,
    assign_roles,
    leave_one_out_periods,
    quantile_boundaries,
    temporal_periods,
)


class EmptyCorpusError(ValueError):
    """No event is left to train on."""


@dataclass(frozen=True)
class Preparation:
    """The outcome of the chain.

    Attributes:
        arrays: What goes to disk, by file name without ending.
        users: Raw user ids, numbered from 0.
        items: Raw item ids, numbered from 1.
        ties: Ties of the log after filtering.
        dropped: Events dropped by a filter, by reason.
        roles: Events by what the split made of them, by name in ``ROLES``.
        train_rows: (T,) int64, ascending: rows of the training period before a k-core over the
            training part. This is the split assignment the deletion test holds fixed.
        starts: Start of validation and of test in microseconds; empty for leave-one-out.
    """

    arrays: Arrays
    users: Vocabulary
    items: Vocabulary
    ties: TieStatistics
    dropped: dict[str, int]
    roles: dict[str, int]
    train_rows: np.ndarray
    starts: tuple[int, ...]


def prepare(frame: pl.DataFrame, recipe: Recipe) -> Preparation:
    """Turn a valid log into packed arrays.

    Args:
        frame: Columns ``user_id``, ``item_id``, ``timestamp`` (microseconds), ``row`` and
            optionally ``rating``, as ``split_valid`` returns them.
        recipe: The choices.

    Raises:
        EmptyCorpusError: Nothing is left to train on after filtering.
        SplitError: The log can't be split as asked, or no user can be tested.
    """
    rated = _select_rated(frame, recipe.rating_threshold)
    user_ids, item_ids = list_raw_ids(rated["user_id"]), list_raw_ids(rated["item_id"])
    events, dropped = _filter_log(sort_events(to_events(rated, user_ids, item_ids)), recipe)
    dropped["rating"] = len(frame) - len(rated)
    _require_events(len(events), recipe)
    ties = measure_ties(events)
    starts, periods = _find_periods(events, recipe)
    train_rows = np.sort(events.rows[periods == TRAIN])
    if recipe.corpus == "train":
        events, periods = _trim_training(events, periods, recipe, dropped)
        _require_events(int(np.count_nonzero(periods == TRAIN)), recipe)
    encoded, split, users, items = _encode(events, periods, user_ids, item_ids, recipe)
    counts = np.bincount(split.roles, minlength=len(ROLES)).tolist()
    return Preparation(
        arrays=_pack(encoded, split, len(users)),
        users=users,
        items=items,
        ties=ties,
        dropped=dropped,
        roles=dict(zip(ROLES, counts, strict=True)),
        train_rows=train_rows,
        starts=starts,
    )


def rebuild_training(frame: pl.DataFrame, preparation: Preparation, recipe: Recipe) -> Arrays:
    """Prepare the training arrays again from a log without any held-out row.

    The split assignment and the users are held fixed. What the recipe declares to see the whole
    log (corpus, vocabulary) is held fixed too; what it declares to see training rows only is
    computed afresh, so a dependence on a held-out row shows as different bytes.

    Args:
        frame: The log given to ``prepare``.
        preparation: What ``prepare`` made of it.
        recipe: The same choices.
    """
    kept = np.isin(frame["row"].to_numpy(), preparation.train_rows, assume_unique=True)
    remaining = frame.filter(pl.Series(kept))
    user_ids, item_ids = preparation.users.raw_ids, preparation.items.raw_ids
    if recipe.corpus == "train":
        all_users, all_items = (
            list_raw_ids(remaining["user_id"]),
            list_raw_ids(remaining["item_id"]),
        )
        events = sort_events(to_events(remaining, all_users, all_items))
        positions, _ = filter_corpus(
            events, recipe.repeats, recipe.min_user_events, recipe.min_item_events
        )
        rows = events.rows[positions]
        kept = np.isin(remaining["row"].to_numpy(), rows, assume_unique=True)
        remaining = remaining.filter(pl.Series(kept))
    if recipe.vocabulary == "train":
        item_ids = list_raw_ids(remaining["item_id"])
    events = sort_events(to_events(remaining, user_ids, item_ids))
    events = Events(events.users, events.items + 1, events.times, events.rows)
    return pack_sequences("train.", events, events.users, len(user_ids))


def _select_rated(frame: pl.DataFrame, threshold: float) -> pl.DataFrame:
    if "rating" not in frame.columns:
        return frame
    kept = mask_rated(frame["rating"], threshold)
    return frame if kept.all() else frame.filter(pl.Series(kept))


def _filter_log(events: Events, recipe: Recipe) -> tuple[Events, dict[str, int]]:
    """Apply every filter that may look at the whole log."""
    dropped = {"rating": 0, "duplicates": 0, "repeats": 0, "k_core": 0}
    if recipe.duplicates == "drop":
        duplicate = mask_duplicates(events)
        dropped["duplicates"] = int(duplicate.sum())
        events = events.take(~duplicate)
    smallest = (
        (recipe.min_user_events, recipe.min_item_events) if recipe.corpus == "full" else (1, 1)
    )
    positions, filtered = filter_corpus(events, recipe.repeats, *smallest)
    return events.take(positions), dropped | filtered


def _trim_training(
    events: Events, periods: np.ndarray, recipe: Recipe, dropped: dict[str, int]
) -> tuple[Events, np.ndarray]:
    """Apply the k-core to the training part alone and count what it drops in ``dropped``."""
    training = np.flatnonzero(periods == TRAIN)
    positions, filtered = filter_corpus(
        events.take(training), recipe.repeats, recipe.min_user_events, recipe.min_item_events
    )
    kept = periods != TRAIN
    kept[training[positions]] = True
    events, periods = events.take(kept), periods[kept]
    # A dropped training event can leave a held-out event as a repeat of an earlier one.
    fresh = mask_repeats(events, recipe.repeats)
    dropped["k_core"] += filtered["k_core"]
    dropped["repeats"] += filtered["repeats"] + int(np.count_nonzero(~fresh))
    return events.take(fresh), periods[fresh]


def _find_periods(events: Events, recipe: Recipe) -> tuple[tuple[int, ...], np.ndarray]:
    if recipe.split == "leave_one_out":
        return (), leave_one_out_periods(events.users)
    starts = recipe.starts
    if recipe.boundaries == "quantile":
        starts = quantile_boundaries(events.times, *recipe.quantiles)
    return starts, temporal_periods(events.times, *starts)


def _encode(
    events: Events, periods: np.ndarray, user_ids: pl.Series, item_ids: pl.Series, recipe: Recipe
) -> tuple[Events, Split, Vocabulary, Vocabulary]:
    """Number the items, choose the examples, then number the users that are left."""
    training = periods == TRAIN
    listed = events.items[training] if recipe.vocabulary == "train" else events.items
    encoded_items = _renumber(events.items, listed, len(item_ids), first_id=1)
    split = assign_roles(
        events.users,
        periods,
        encoded_items > 0,
        target=recipe.temporal_target,
        cold_targets=recipe.cold_targets,
        cold_users=recipe.cold_users,
    )
    _require_examples(split, recipe)
    used = np.concatenate([np.flatnonzero(training), split.val.targets, split.test.targets])
    present = events.users[used]
    encoded_users = _renumber(events.users, present, len(user_ids), first_id=0)
    return (
        Events(encoded_users, encoded_items, events.times, events.rows),
        split,
        fit_vocabulary(present, user_ids, first_id=0),
        fit_vocabulary(listed, item_ids, first_id=1),
    )


def _renumber(codes: np.ndarray, listed: np.ndarray, num_codes: int, first_id: int) -> np.ndarray:
    """Return gapless ids of the codes in ``listed``, in code order; -1 for all others."""
    occurs = np.bincount(listed, minlength=num_codes) > 0
    table = np.where(occurs, np.cumsum(occurs) - 1 + first_id, -1).astype(np.int32)
    return table[codes]


def _pack(events: Events, split: Split, num_users: int) -> Arrays:
    train = events.take(split.periods == TRAIN)
    return {
        **pack_sequences("train.", train, train.users, num_users),
        **pack_examples("val", events, split.val),
        **pack_examples("test", events, split.test),
    }


def _require_events(count: int, recipe: Recipe) -> None:
    if count == 0:
        raise EmptyCorpusError(
            "no training event is left: the log is empty, or rating_threshold "
            f"{recipe.rating_threshold:g}, min_user_events {recipe.min_user_events} and "
            f"min_item_events {recipe.min_item_events} drop everything. Lower them in the "
            "data section of params.yaml."
        )


def _require_examples(split: Split, recipe: Recipe) -> None:
    if len(split.val) and len(split.test):
        return
    reason = (
        "leave_one_out needs a user with 3 events or more"
        if recipe.split == "leave_one_out"
        else "the temporal split needs users with events before and after both boundaries"
    )
    raise SplitError(
        f"{len(split.val)} validation and {len(split.test)} test examples can be made; expected "
        f"at least 1 of each: {reason} (cold_users: {recipe.cold_users}, cold_targets: "
        f"{recipe.cold_targets}). Lower the filters or move the boundaries in the data section."
    )
