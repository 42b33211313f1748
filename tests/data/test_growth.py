import numpy as np
import polars as pl
import pytest

from tasks.data import fetch_stage, growth, prepare_stage
from tasks.data.build import build_prepared
from tasks.data.growth import Snapshot
from tasks.data.recipe import Recipe
from tasks.settings import Settings, settings_from_dict

LIMITS = Settings().retrain.model_dump()


def make_prepared(folder, num_events=8, num_users=12, prefix="i", start=1000):
    users = np.repeat(np.arange(num_users), num_events)
    items = [(user + step) % 10 for user in range(num_users) for step in range(num_events)]
    frame = pl.DataFrame(
        {
            "user_id": [f"u{user}" for user in users],
            "item_id": [f"{prefix}{item}" for item in items],
            "timestamp": (start + np.arange(len(items))) * 1_000_000,
            "row": np.arange(len(items)),
        }
    )
    build_prepared(folder, frame, Recipe())
    return folder


def grown(tmp_path, **now):
    growth.remember(make_prepared(tmp_path / "before"), tmp_path / "kept")
    before = growth.recall(tmp_path / "kept")
    return growth.compare(before, growth.look_at(make_prepared(tmp_path / "now", **now)))


def test_log_that_is_appended_to_breaks_nothing(tmp_path):
    found = grown(tmp_path, num_events=9, num_users=14)
    assert found.new_users == 2
    assert found.new_events > 0
    assert found.new_items == 0
    assert growth.breaches(found, LIMITS) == []
    assert "+2 users" in str(found)


def test_same_log_did_not_change(tmp_path):
    found = grown(tmp_path)
    assert (found.new_events, found.new_items, found.shift) == (0, 0, 0.0)
    assert growth.breaches(found, LIMITS) == []


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ({"num_events": 4}, "events are gone"),
        ({"prefix": "x"}, "did the ids change"),
        ({"start": 0}, "older than last time"),
    ],
    ids=["cut short", "other ids", "older"],
)
def test_log_that_is_another_is_named(tmp_path, now, said):
    assert said in "; ".join(growth.breaches(grown(tmp_path, **now), LIMITS))


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        ("max_vanished_items", "vanished_items"),
        ("max_vanished_events", "vanished_events"),
        ("max_new_items", "new_items_share"),
        ("max_shift", "shift"),
    ],
)
def test_value_at_its_limit_is_accepted_and_one_above_is_not(name, attribute):
    quiet = growth.compare(*[Snapshot(10, 2, 5, {"a": 10})] * 2)
    at_limit = growth.Growth(**{**vars(quiet), attribute: LIMITS[name]})
    above = growth.Growth(**{**vars(quiet), attribute: LIMITS[name] + 1e-6})
    assert growth.breaches(at_limit, LIMITS) == []
    assert [f"retrain.{name}" in text for text in growth.breaches(above, LIMITS)] == [True]


def test_popularity_that_shifts_is_measured():
    before = Snapshot(100, 5, 5, {"a": 90, "b": 10})
    now = Snapshot(100, 5, 6, {"a": 10, "b": 90})
    assert growth.compare(before, now).shift == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (
            {"rating": "stars", "timestamp": "ts", "time unit": "ms"},
            "time unit was 's' and is 'ms'",
        ),
        ({"timestamp": "ts", "time unit": "s"}, "rating was 'stars' and is absent"),
        ({"rating": "stars", "timestamp": "t", "time unit": "s"}, "timestamp was 'ts' and is 't'"),
    ],
    ids=["time unit", "column gone", "column renamed"],
)
def test_other_columns_are_named(schema, said):
    before = Snapshot(10, 2, 5, {"a": 10}, {"rating": "stars", "timestamp": "ts", "time unit": "s"})
    found = growth.compare(before, Snapshot(10, 2, 5, {"a": 10}, schema))
    (text,) = growth.breaches(found, LIMITS)
    assert f"its columns changed ({said})" in text


def test_schema_of_a_log_is_remembered(tmp_path):
    (tmp_path / "log.csv").write_text(
        "user,item,ts\n" + "".join(f"u{n % 5},i{n % 4},{1_500_000_000 + n}\n" for n in range(40))
    )
    data = {"source": "file", "path": "log.csv"}
    settings = settings_from_dict({"data": data, "tracking": {"enabled": False}})
    fetch_stage.run(settings, tmp_path)
    prepare_stage.run(settings, tmp_path)
    growth.remember(tmp_path / "data" / "prepared", tmp_path / "kept")
    assert growth.recall(tmp_path / "kept").schema == {
        "user_id": "user",
        "item_id": "item",
        "timestamp": "ts",
        "time unit": "s",
    }


@pytest.mark.parametrize("name", [*growth.SNAPSHOT_FILES, growth.COUNTS_FILE])
@pytest.mark.parametrize("damage", ["flipped", "gone"])
def test_damaged_memory_is_named(tmp_path, name, damage):
    growth.remember(make_prepared(tmp_path / "before"), tmp_path / "kept")
    path = tmp_path / "kept" / name
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content) if damage == "flipped" else path.unlink()
    with pytest.raises(growth.SnapshotError, match=name):
        growth.recall(tmp_path / "kept")


def test_without_checksums_a_memory_is_damaged_and_nothing_is_none(tmp_path):
    growth.remember(make_prepared(tmp_path / "before"), tmp_path / "kept")
    (tmp_path / "kept" / growth.CHECKSUMS_FILE).write_text("{}")
    with pytest.raises(growth.SnapshotError, match="kept can't be read"):
        growth.recall(tmp_path / "kept")
    assert growth.recall(tmp_path / "nothing") is None
