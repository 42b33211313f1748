"""Damaged copies of good logs: every one loads consistently or is refused with a `DataError`."""

from __future__ import annotations

import gzip
import io
import random
import zipfile
from pathlib import Path

import polars as pl
import pytest

from tasks.data.readers import DataError, read_interactions

TIME = 1_500_000_000


def _good_logs() -> dict[str, bytes]:
    rows = range(30)
    csv = b"user_id,item_id,rating,timestamp\n" + b"".join(
        b"u%d,i%d,%d,%d\n" % (k % 7, k % 11, k % 5 + 1, TIME + k) for k in rows
    )
    parquet, archive = io.BytesIO(), io.BytesIO()
    pl.DataFrame(
        {"user_id": [1, 2, 3], "item_id": ["a", "b", "c"], "timestamp": [TIME, TIME + 1, TIME + 2]}
    ).write_parquet(parquet)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("ratings.csv", csv)
    return {
        "log.csv": csv,
        "quoted.csv": b"user_id,item_id,rating,timestamp\n"
        + b"".join(b'"u%d","i ""%d, x",%d,%d\n' % (k % 7, k % 11, k % 5, TIME + k) for k in rows),
        "dates.csv": b"user,item,time\n"
        + b"".join(b"u%d,i%d,2015-06-%02dT10:00:%02dZ\n" % (k, k, k % 28 + 1, k) for k in rows),
        "log.inter": b"user_id:token\titem_id:token\ttimestamp:float\n"
        + b"".join(b"%d\t%d\t%d\n" % (k % 7, k % 11, TIME + k) for k in rows),
        "log.dat": b"".join(b"%d::%d::%d::%d\n" % (k % 7, k, k % 5, TIME + k) for k in rows),
        "nested.jsonl": b"".join(
            b'{"session":%d,"events":[{"aid":%d,"ts":%d},{"aid":3,"ts":%d}]}\n'
            % (k, k, TIME * 1000 + k, TIME * 1000 + k + 5)
            for k in rows
        ),
        "flat.jsonl": b"".join(
            b'{"user":"a%d","item":%d,"ts":%d}\n' % (k, k, TIME * 1000 + k) for k in rows
        ),
        "log.parquet": parquet.getvalue(),
        "log.csv.gz": gzip.compress(csv, mtime=0),
        "log.zip": archive.getvalue(),
    }


GOOD_LOGS = _good_logs()
SPLINTERS = [
    *(b'"', b"'", b",", b"\n", b"\r", b"\t", b"::", b"\0", b"\xff", b"\xef\xbb\xbf", b"{", b"}"),
    *(b"[", b"]", b"nan", b"-1", b"1e309", b"9" * 23, b"\xf0\x9f\x98\x80", b"\\", b" ", b";"),
    *(b"|", b"2015-01-01", b"\x1f", b'""', b"null"),
]


def mutate(seed: int) -> tuple[str, bytes]:
    """Return a file name and a good log with 1 to 20 random damages."""
    rng = random.Random(seed)
    name = rng.choice(list(GOOD_LOGS))
    data = bytearray(GOOD_LOGS[name])
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        kind, place = rng.randrange(6), rng.randrange(len(data) + 1)
        if kind == 0:
            data[place:place] = rng.choice(SPLINTERS)
        elif kind == 1:
            del data[place : place + rng.choice([1, 3, 30])]
        elif kind == 2:
            data[place : place + 1] = bytes([rng.randrange(256)])
        elif kind == 3:
            data = data[:place]
        elif kind == 4:
            start = rng.randrange(len(data) + 1)
            data[place:place] = data[start : start + 200]
        else:
            data[place : place + 10] = rng.choice(SPLINTERS)
    return name, bytes(data)


def check(seed: int, folder: Path) -> bool:
    """Read a mutated log; return True if it loaded. Anything but a `DataError` escapes."""
    name, data = mutate(seed)
    path = folder / name
    path.write_bytes(data)
    try:
        frame, report = read_interactions(path)
    except DataError as error:
        assert name in str(error) or "data." in str(error)
        return False
    rows, unparsed = frame["row"], report.unparsed["row"]
    assert len(frame) + len(unparsed) == report.num_rows
    assert rows.is_sorted()
    assert rows.n_unique() == len(rows)
    assert not set(rows) & set(unparsed)
    assert frame["user_id"].null_count() == frame["timestamp"].null_count() == 0
    assert frame["timestamp"].min() >= 0
    return True


@pytest.mark.parametrize("block", range(4))
def test_mutated_log_loads_consistently_or_is_refused(block: int, tmp_path: Path) -> None:
    loaded = [check(seed, tmp_path) for seed in range(block * 100, block * 100 + 100)]
    assert 20 < sum(loaded) < 90


@pytest.mark.long
def test_many_mutated_logs(tmp_path: Path) -> None:
    loaded = [check(seed, tmp_path) for seed in range(1000, 11_000)]
    assert 3000 < sum(loaded) < 7000
