"""What a model recommends, whether or not it is right: coverage and popularity bias.

All functions read top-K lists (E, K) of item ids, best first, where 0 means that no item was left.
"""

from __future__ import annotations

import numpy as np


def coverage(top_items: np.ndarray, num_items: int) -> float:
    """Return the share of the catalogue that is in at least one list, in [0, 1].

    Example:
        >>> coverage(np.array([[1, 2], [2, 0]]), num_items=4)
        0.5
    """
    shown = np.unique(top_items)
    return float(np.count_nonzero(shown) / num_items)


def mean_popularity(top_items: np.ndarray, item_counts: np.ndarray) -> float:
    """Return the mean number of training events of a recommended item.

    The average recommendation popularity of Yin et al. (2012): first over each list, then over
    users. Lists without any item do not count.

    Args:
        top_items: int64 (E, K).
        item_counts: (V,), training events by item id; entry 0 is ignored.

    Example:
        >>> mean_popularity(np.array([[1, 2], [2, 0]]), np.array([0, 4, 8]))
        7.0
    """
    return _mean_over_lists(top_items, np.asarray(item_counts, np.float64))


def mean_popularity_percentile(top_items: np.ndarray, item_counts: np.ndarray) -> float:
    """Return the mean popularity percentile of a recommended item, in [0, 100].

    An item's percentile is the share of the catalogue with fewer training events plus half of the
    share with as many: uniform recommendations give 50, the most popular item close to 100.

    Example:
        >>> mean_popularity_percentile(np.array([[2], [2]]), np.array([0, 1, 5]))
        75.0
    """
    real = np.asarray(item_counts)[1:]
    ordered = np.sort(real)
    below = np.searchsorted(ordered, real, side="left")
    upto = np.searchsorted(ordered, real, side="right")
    percentiles = np.concatenate([[0.0], 50.0 * (below + upto) / len(real)])
    return _mean_over_lists(top_items, percentiles)


def _mean_over_lists(top_items: np.ndarray, value_of_item: np.ndarray) -> float:
    """Return the mean over lists of the mean over a list's items of `value_of_item` (V,)."""
    is_item = top_items > 0
    sizes = is_item.sum(axis=1)
    if not sizes.any():
        raise ValueError("no list holds an item; expected at least one recommendation.")
    sums = (value_of_item[top_items] * is_item).sum(axis=1)
    return float((sums[sizes > 0] / sizes[sizes > 0]).mean())
