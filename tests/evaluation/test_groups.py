from __future__ import annotations

import numpy as np
import pytest

from tasks.evaluation.groups import (
    HISTORY_LENGTH_EDGES,
    ITEM_POPULARITY_EDGES,
    group_labels,
    group_of,
    means_by_group,
)


@pytest.mark.parametrize("edges", [HISTORY_LENGTH_EDGES, ITEM_POPULARITY_EDGES])
def test_every_count_falls_into_the_group_its_label_says(edges: tuple[int, ...]) -> None:
    labels = group_labels(edges)
    for value, group in zip(range(1000), group_of(np.arange(1000), edges), strict=True):
        low, _, high = labels[group].rstrip("+").partition("-")
        is_open = labels[group].endswith("+")
        assert int(low) <= value <= (10**9 if is_open else int(high or low))


def test_value_below_the_first_group_raises() -> None:
    with pytest.raises(ValueError, match="value -1 is below"):
        group_of(np.array([3, -1]), (0, 5))


def test_groups_split_the_mean() -> None:
    generator = np.random.default_rng(0)
    values, groups = generator.random(500), generator.integers(0, 3, 500)
    rows = means_by_group({"x": values}, groups, ["a", "b", "c", "empty"])
    assert [row["group"] for row in rows] == ["a", "b", "c"]
    total = sum(row["users"] * row["x"] for row in rows)
    assert total == pytest.approx(values.sum())
    first = values[groups == 0]
    assert rows[0]["x_se"] == pytest.approx(first.std(ddof=1) / len(first) ** 0.5)


def test_group_of_one_user_has_no_spread() -> None:
    rows = means_by_group({"x": np.array([0.4])}, np.array([0]), ["only"])
    assert rows == [{"group": "only", "users": 1, "x": 0.4, "x_se": 0.0}]
