"""The pure chain from a valid log to packed arrays: filter, order, split, encode, pack."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from tasks.data.coded import CodedLog, encode_log, number_codes
from tasks.data.encoding import Vocabulary, fit_vocabulary
from tasks.data.events import Events, count_codes
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


def prepare(log: pl.DataFrame | CodedLog, recipe: Recipe) -> Preparation:
    """Turn a valid log into packed arrays.

    Args:
        log: Integers, or a table with the columns ``user_id``, ``item_id``, ``timestamp``
            (microseconds), ``row`` and optionally ``rating``, as ``split_valid`` returns them.
        recipe: The choices.

    Raises:
        EmptyCorpusError: Nothing is left to train on after filtering.
        SplitError: The log can't be split as asked, or no user can be tested.
    """
    coded = encode_log(log)
    rated = _select_rated(coded, recipe.rating_threshold)
    num_rated = len(rated)
    events = sort_events(rated)
    del rated
    events, dropped = _filter_log(events, recipe)
    dropped["rating"] = coded.num_rows - num_rated
    _require_events(len(events), recipe)
    ties = measure_ties(events)
    starts, periods = _find_periods(events, recipe)
    train_rows = np.sort(events.rows[periods == TRAIN])
    if recipe.corpus == "train":
        events, periods = _trim_training(events, periods, recipe, dropped)
        _require_events(int(np.count_nonzero(periods == TRAIN)), recipe)
    encoded, split, users, items = _encode(events, periods, coded, recipe)
    del events
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


def rebuild_training(
    log: pl.DataFrame | CodedLog, preparation: Preparation, recipe: Recipe
) -> Arrays:
    """Prepare the training arrays again from a log without any held-out row.

    The split assignment and the users are held fixed. What the recipe declares to see the whole
    log (corpus, vocabulary) is held fixed too; what it declares to see training rows only is
    computed afresh, so a dependence on a held-out row shows as different bytes.

    Args:
        log: The log given to ``prepare``.
        preparation: What ``prepare`` made of it.
        recipe: The same choices.
    """
    coded = encode_log(log)
    events = coded.events()
    kept = np.isin(events.rows, preparation.train_rows, assume_unique=True)
    remaining = events.take(kept)
    del events
    if recipe.corpus == "train":
        ordered = sort_events(remaining)
        positions, _ = filter_corpus(
            ordered, recipe.repeats, recipe.min_user_events, recipe.min_item_events
        )
        rows = ordered.rows[positions]
        kept = np.isin(remaining.rows, rows, assume_unique=True)
        remaining = remaining.take(kept)
    if recipe.vocabulary == "train":
        num_codes = len(coded.item_ids)
        item_ids = number_codes(count_codes(remaining.items, num_codes) > 0, first_id=1)
    else:
        item_ids = preparation.items.encode(coded.item_ids)
    user_ids = preparation.users.encode(coded.user_ids)
    events = sort_events(
        Events(
            user_ids[remaining.users],
            np.maximum(item_ids, 0)[remaining.items],
            remaining.times,
            remaining.rows,
        )
    )
    return pack_sequences("train.", events, events.users, len(preparation.users))


def _select_rated(log: CodedLog, threshold: float) -> Events:
    if log.ratings is None:
        return log.events()
    kept = mask_rated(log.ratings(), threshold)
    return log.events() if kept.all() else log.events().take(kept)


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
    if len(positions) < len(events):
        events = events.take(positions)
    return events, dropped | filtered


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
    events: Events, periods: np.ndarray, log: CodedLog, recipe: Recipe
) -> tuple[Events, Split, Vocabulary, Vocabulary]:
    """Number the items, choose the examples, then number the users that are left."""
    training = periods == TRAIN
    counted = training if recipe.vocabulary == "train" else None
    listed = count_codes(events.items, len(log.item_ids), counted) > 0
    encoded_items = number_codes(listed, first_id=1)[events.items]
    split = assign_roles(
        events.users,
        periods,
        encoded_items > 0,
        target=recipe.temporal_target,
        cold_targets=recipe.cold_targets,
        cold_users=recipe.cold_users,
    )
    _require_examples(split, recipe)
    present = count_codes(events.users, len(log.user_ids), training) > 0
    for examples in (split.val, split.test):
        present[events.users[examples.targets]] = True
    encoded_users = number_codes(present, first_id=0)[events.users]
    return (
        Events(encoded_users, encoded_items, events.times, events.rows),
        split,
        fit_vocabulary(np.flatnonzero(present), log.user_ids, first_id=0),
        fit_vocabulary(np.flatnonzero(listed), log.item_ids, first_id=1),
    )


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
