"""A log read in pieces gives what it gives when read at once."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tasks.data import pieces, prepare_stage
from tasks.data.build import build_prepared
from tasks.data.integrity import MANIFEST_NAME
from tasks.data.pieces import kind_of_pieces
from tasks.data.readers import DataError
from tasks.data.recipe import Recipe
from tasks.data.streamed import read_streamed

RNG = np.random.default_rng(0)
EVENTS = [
    (f"u{RNG.integers(40)}", int(RNG.zipf(1.4)) % 60, 1_500_000_000 + int(RNG.integers(9999)))
    for _ in range(900)
]
RECIPES = {
    "leave_one_out": Recipe(min_item_events=2),
    "temporal": Recipe(split="temporal", corpus="train", vocabulary="train", repeats="first"),
    "rated": Recipe(rating_threshold=3.0),
}


def csv(*, header: str = "user_id,item_id,timestamp,rating\n", end: str = "\n") -> str:
    lines = [f"{user},{item},{time},{item % 5 + 1}" for user, item, time in EVENTS]
    lines[100] = "u1,,1500000000,3"
    lines[700] = "u1,2,never,3"
    lines[701] = "u1,3,1500000009,"
    lines[702] = ""
    return header + "\n".join(lines) + end


def tsv_without_header() -> str:
    return "".join(f"{user}\t{item}\t{item % 5 + 1}\t{time}\n" for user, item, time in EVENTS)


def without_reasons(manifest: dict) -> dict:
    """All but the words for an unreadable time: later pieces are told the unit."""
    del manifest["quarantine_reasons"], manifest["files"]["quarantine.csv"]
    del manifest["manifest_sha256"], manifest["source"]["read"]["warnings"]
    return manifest


def both_ways(path: Path, reading: dict, folder: Path, size: int, recipe: Recipe) -> list[dict]:
    """The manifests of both ways to read, with the hashes of all files."""
    manifests = []
    whole = prepare_stage.read_log(path, reading, folder / "streamed")
    kind = kind_of_pieces(path, large_bytes=1)
    assert kind is not None
    cut = read_streamed(path, kind, reading, folder / "streamed", size=size)
    for name, log in (("whole", whole), ("cut", cut)):
        with log as found:
            source = {"read": found.report.to_dict()}
            out = folder / name
            build_prepared(out, found.coded, recipe, quarantine=found.quarantine, source=source)
        manifests.append(without_reasons(json.loads((out / MANIFEST_NAME).read_text())))
    assert not (folder / "streamed").exists()
    return manifests


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    "content",
    [csv(), csv(end=""), "\n" + csv(), csv().replace("\n", "\r\n"), "\ufeff" + csv()],
    ids=["plain", "no_last_newline", "blank_first", "windows", "bom"],
)
def test_text_in_pieces(content: str, recipe: str, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(content, newline="")
    whole, cut = both_ways(path, {}, tmp_path, 2000, RECIPES[recipe])
    assert cut == whole
    assert whole["events"]["quarantined"] == 2
    lines = (tmp_path / "cut" / "quarantine.csv").read_text().splitlines()
    assert len(lines) == 3


def test_text_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "u.data"
    path.write_text(tsv_without_header())
    whole, cut = both_ways(path, {}, tmp_path, 3000, Recipe())
    assert cut == whole
    assert whole["counts"]["rows"] == len(EVENTS)


@pytest.mark.parametrize("size", [1, 250, 2000])
def test_parquet_in_pieces(size: int, tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    names = ["user_id", "item_id", "timestamp"]
    events = EVENTS[:40] if size == 1 else EVENTS
    pl.DataFrame(events, schema=names, orient="row").write_parquet(path)
    whole, cut = both_ways(path, {}, tmp_path, size, Recipe(min_user_events=1))
    assert cut == whole


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("log.jsonl", b'{"user_id": 1, "item_id": 2, "timestamp": 3}\n'),
        ("log.csv", b'user_id,item_id,timestamp\n"a",b,3\n'),
        ("log.csv", "user_id,item_id,timestamp\na,b,3\n".encode("utf-16")),
    ],
    ids=["json", "quotes", "utf16"],
)
def test_what_can_not_be_cut_is_read_at_once(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert kind_of_pieces(path, large_bytes=1) is None


def test_small_logs_and_members_of_archives_are_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(csv())
    assert kind_of_pieces(path) is None
    assert kind_of_pieces(f"{tmp_path}/logs.zip::log.csv") is None


def test_the_stage_reads_a_large_log_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.csv"
    path.write_text(csv())
    with prepare_stage.read_log(path, {}, tmp_path / "streamed") as whole:
        expected = whole.coded.events()
    monkeypatch.setattr(pieces, "PIECE_BYTES", 500)
    monkeypatch.setattr(prepare_stage, "kind_of_pieces", lambda path: kind_of_pieces(path, 1))

    with prepare_stage.read_log(path, {}, tmp_path / "streamed") as cut:
        assert (tmp_path / "streamed" / "users").exists()
        found = cut.coded.events()
        for field in dataclasses.fields(expected):
            values = getattr(expected, field.name)
            assert np.array_equal(getattr(found, field.name), values)
    assert not (tmp_path / "streamed").exists()


def test_a_later_part_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(csv(end="\n") + "a,b,never,1\n" * 200)
    reading: dict[str, str] = {}
    with (
        pytest.raises(
            DataError, match=r"In the part from data row \d+ on: .*holds no time that can be read"
        ),
        read_streamed(path, "text", reading, tmp_path / "streamed", size=1000),
    ):
        pass
