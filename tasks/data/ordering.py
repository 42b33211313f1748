"""The order of a user's events, and what equal times do to it.

Events are ordered by (user, time, row in the log). Equal times are common (a rater works through a
list, a basket is paid at once), so the row decides which event is a user's last. If a log's rows
were sorted by item within equal times, that order tells a model which item comes next.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl

from tasks.data.events import EVENT_DTYPES, Events, count_codes

SUSPICIOUS_SHARE = 0.6
"""Effect floor: MovieLens' own files have 0.50 to 0.55 of tied pairs ascending by item, a file
sorted by item has 1.0; of all consecutive pairs 0.50 to 0.54 ascend, and 0.65 to 0.67 after
sorting ties by item."""

SUSPICIOUS_P_VALUE = 1e-6
"""Two-sided level of the sign test that must be passed besides the effect floor."""


SORTED_AT_ONCE = 2**24


@dataclass(frozen=True)
class TieStatistics:
    """How much of the order rests on the row number.

    Attributes:
        tied_share: Share of events with the user and time of another event.
        last_two_tied_share: Share of users (of those with two events or more) whose last two
            events have equal times: their held-out item depends on the tie policy.
        tied_pairs: Consecutive events of a user with equal times and different items.
        tied_ascending_share: Share of ``tied_pairs`` whose item ids ascend (0.5 if there is none).
        pairs: Consecutive events of a user with different items.
        ascending_share: Share of ``pairs`` whose item ids ascend (0.5 if there is none).
    """

    tied_share: float
    last_two_tied_share: float
    tied_pairs: int
    tied_ascending_share: float
    pairs: int
    ascending_share: float


def sort_events(events: Events, at_once: int = SORTED_AT_ONCE) -> Events:
    """Return the events ordered by (user, time, row); rows are unique, so there is one order.

    Args:
        events: N events; users are positions, none of them -1.
        at_once: More events are sorted by ranges of users of about this many, in less memory.
    """
    if len(events) <= at_once:
        return _sort_at_once(events)
    counts = count_codes(events.users, int(events.users.max()) + 1)
    stops = np.cumsum(counts)
    ordered = Events(*(np.empty(len(events), dtype=kind) for kind in EVENT_DTYPES))
    first, done = 0, 0
    while done < len(events):
        after = max(int(np.searchsorted(stops, done + at_once, side="right")), first + 1)
        chosen = np.flatnonzero((events.users >= first) & (events.users < after))
        part = _sort_at_once(events.take(chosen))
        place = slice(done, done + len(part))
        ordered.users[place], ordered.items[place] = part.users, part.items
        ordered.times[place], ordered.rows[place] = part.times, part.rows
        first, done = after, place.stop
    return ordered


def _sort_at_once(events: Events) -> Events:
    keys = pl.DataFrame({"user": events.users, "time": events.times, "row": events.rows})
    return events.take(keys.select(pl.arg_sort_by("user", "time", "row")).to_series().to_numpy())


def measure_ties(events: Events) -> TieStatistics:
    """Measure ties of events in ``sort_events`` order.

    ``items`` must be positions in an ordered list of raw ids, as ``list_raw_ids`` gives.
    """
    same_user = events.users[1:] == events.users[:-1]
    tied = same_user & (events.times[1:] == events.times[:-1])
    in_tie = np.zeros(len(events), dtype=bool)
    in_tie[1:] |= tied
    in_tie[:-1] |= tied
    is_last = np.append(~same_user, True)[1:] if len(events) > 1 else np.zeros(0, dtype=bool)
    last_pairs = same_user & is_last
    ascends = events.items[1:] > events.items[:-1]
    differs = events.items[1:] != events.items[:-1]
    return TieStatistics(
        tied_share=_share(in_tie, np.ones(len(events), dtype=bool), empty=0.0),
        last_two_tied_share=_share(tied, last_pairs, empty=0.0),
        tied_pairs=int(np.count_nonzero(tied & differs)),
        tied_ascending_share=_share(ascends, tied & differs, empty=0.5),
        pairs=int(np.count_nonzero(same_user & differs)),
        ascending_share=_share(ascends, same_user & differs, empty=0.5),
    )


def _share(condition: np.ndarray, among: np.ndarray, *, empty: float) -> float:
    total = np.count_nonzero(among)
    return float(np.count_nonzero(condition & among) / total) if total else empty


def sign_test_p_value(successes: int, trials: int) -> float:
    """Two-sided p-value of ``successes`` in ``trials`` fair coin tosses.

    Exact binomial up to 1000 trials, then the normal approximation with continuity correction.
    Neighbouring pairs of a random order alternate more than coins do (Eulerian variance about
    n / 12 against n / 4), so the test errs on the quiet side.

    >>> sign_test_p_value(10, 10)
    0.001953125
    >>> sign_test_p_value(5, 10)
    1.0
    """
    if trials == 0:
        return 1.0
    extreme = max(successes, trials - successes)
    if trials <= 1000:
        tail = sum(math.comb(trials, k) for k in range(extreme, trials + 1))
        return min(1.0, 2 * tail / 2**trials)
    z = (extreme - 0.5 - trials / 2) / math.sqrt(trials / 4)
    return min(1.0, math.erfc(max(z, 0.0) / math.sqrt(2)))


def find_order_warnings(ties: TieStatistics) -> list[dict]:
    """Return a warning for every sign that the log's order was made from item ids.

    Two signs: the items of tied events run one way, or the items of all consecutive events do
    (which is how a log looks whose times were replaced by positions after such a sort).
    """
    signs = (
        ("ties_follow_item_ids", "equal times", ties.tied_pairs, ties.tied_ascending_share),
        ("order_follows_item_ids", "any time", ties.pairs, ties.ascending_share),
    )
    found = []
    for identifier, scope, pairs, share in signs:
        p_value = sign_test_p_value(round(share * pairs), pairs)
        if max(share, 1 - share) < SUSPICIOUS_SHARE or p_value > SUSPICIOUS_P_VALUE:
            continue
        direction = "ascend" if share > 0.5 else "descend"
        found.append(
            {
                "id": identifier,
                "message": (
                    f"{max(share, 1 - share):.1%} of {pairs} consecutive pairs of one user with "
                    f"{scope} {direction} by item id (up to {SUSPICIOUS_SHARE:.0%} is "
                    "usual): the log seems to have been sorted by item, which tells a model "
                    "what comes next. Use the log in its original order, or finer times; if "
                    "items really are consumed in the order of their ids, ignore this."
                ),
                "numbers": {"pairs": pairs, "ascending_share": share, "p_value": p_value},
            }
        )
    return found
