"""The table of sources."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tasks.data.readers import read_interactions
from tasks.data.sources import MOVIELENS_100K, SOURCES, ArchiveOrigin, WheelOrigin, list_sources
from tasks.settings import DataSettings


def test_settings_allow_exactly_these_sources() -> None:
    allowed = DataSettings.model_fields["source"].annotation.__args__
    assert set(allowed) == {source.name for source in SOURCES}


def test_every_source_shows_its_terms() -> None:
    for entry in list_sources():
        assert entry["title"]
        assert entry["licence"]
    assert all("redistribution" in s.licence for s in SOURCES if s.name.startswith("movielens"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_origins_are_verified_ones(source) -> None:
    for origin in source.origins:
        assert len(bytes.fromhex(origin.sha256)) == 32
        assert not origin.member.startswith("/")
        if isinstance(origin, ArchiveOrigin):
            assert origin.url.startswith("https://")
        else:
            assert "==" in origin.requirement


def test_both_origins_of_movielens_100k_hold_the_same_bytes(
    shared_dir: Path, tmp_path: Path
) -> None:
    content = (shared_dir / "data" / "ml-100k" / "ml-100k.inter").read_bytes()
    wheel = next(o for o in MOVIELENS_100K.origins if isinstance(o, WheelOrigin))
    assert hashlib.sha256(content).hexdigest() == wheel.sha256
    rows = content.split(b"\n", wheel.header_lines)[-1]
    assert hashlib.sha256(rows).hexdigest() == MOVIELENS_100K.sha256
    log = tmp_path / MOVIELENS_100K.file_name
    log.write_bytes(rows)
    frame, report = read_interactions(log, **MOVIELENS_100K.reading)
    assert report.num_rows == MOVIELENS_100K.num_rows
    assert frame["user_id"].n_unique() == MOVIELENS_100K.num_users
    assert frame["item_id"].n_unique() == MOVIELENS_100K.num_items
    original, _ = read_interactions(shared_dir / "data" / "ml-100k" / "ml-100k.inter")
    assert frame.equals(original.select(frame.columns))
