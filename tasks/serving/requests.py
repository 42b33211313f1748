"""Requests in files: a user, or a history, per row of CSV or JSON lines."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

MICROSECONDS = 1_000_000
COLUMNS = ("user", "history", "times")


class RequestError(ValueError):
    """A request that can't be read; the message names the line."""


@dataclass(frozen=True)
class Request:
    """What one row asks for: a user of the prepared data, or a history given here.

    Attributes:
        user: raw user id; a label of the answer where there is a history too.
        history: raw item ids or names, oldest first; None to look the user up.
        times: microseconds since the epoch, one per event; None where not given.
    """

    user: str = ""
    history: tuple[str, ...] | None = None
    times: tuple[int, ...] | None = None


def parse_history(text: str) -> tuple[str, ...]:
    """Items of a comma-separated history; an item with a comma in it stands in quotes.

    Raises:
        ValueError: it can't be read as CSV; an item has more than 131,072 characters, for one.

    >>> parse_history('50, 172,"Good, the Bad and the Ugly, The"')
    ('50', '172', 'Good, the Bad and the Ugly, The')
    """
    if not text.strip():
        return ()
    try:
        (row,) = csv.reader([" ".join(text.splitlines())], skipinitialspace=True)
    except csv.Error as error:
        raise ValueError(f"history {text!r:.80} can't be read: {error}.") from None
    return tuple(item.strip() for item in row)


def parse_time(text: str) -> int:
    """Microseconds since the epoch of seconds or an ISO 8601 time; without a zone it is UTC.

    Raises:
        ValueError: it is neither.

    >>> parse_time("1.5"), parse_time("1970-01-01T00:00:02Z")
    (1500000, 2000000)
    """
    with contextlib.suppress(ValueError, OverflowError):
        microseconds = round(float(text) * MICROSECONDS)
        if abs(microseconds) < 2**62:
            return microseconds
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"time {text!r} can't be read; expected seconds since 1970 or ISO 8601, for example "
            "2024-05-01T12:00:00."
        ) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * MICROSECONDS)


def read_requests(path: Path) -> Iterator[Request]:
    """Read the requests of a file, one at a time.

    Args:
        path: ``.csv`` with a header of user and/or history (and times), the history as in
            `parse_history`; or ``.jsonl`` with objects of the same keys, where history and times
            are lists.

    Raises:
        RequestError: the file or a line can't be used.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".jsonl", ".ndjson"):
        raise RequestError(f"{path}: {suffix or 'no ending'}; expected .csv or .jsonl.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = _csv_rows(file, path) if suffix == ".csv" else _json_rows(file, path)
            for number, row in rows:
                try:
                    yield _request(row)
                except ValueError as error:
                    raise RequestError(f"{path}, line {number}: {error}") from None
    except FileNotFoundError:
        raise RequestError(f"{path} does not exist; expected a file of requests.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise RequestError(f"{path} can't be read as UTF-8 text: {error}.") from None


def _csv_rows(file: Any, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(file)
    header = reader.fieldnames or []
    if not {"user", "history"} & set(header):
        raise RequestError(
            f"{path} has the columns {', '.join(header) or 'none'}; expected user or history "
            "(and, if the model reads times, times)."
        )
    for row in reader:
        cells: dict[str, Any] = {key: row[key] for key in COLUMNS if row.get(key) is not None}
        if "history" in cells and (cells["history"] or not cells.get("user")):
            cells["history"] = parse_history(cells["history"])
        else:
            cells.pop("history", None)
        if cells.get("times"):
            cells["times"] = parse_history(cells["times"])
        yield reader.line_num, {key: value for key, value in cells.items() if value != ""}


def _json_rows(file: Any, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RequestError(f"{path}, line {number} is not JSON: {error}.") from None
        if not isinstance(row, dict):
            raise RequestError(f"{path}, line {number} holds no object: {line.strip()[:80]}")
        try:
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise RequestError(
                f"{path}, line {number} holds half of a surrogate pair, which is no character: "
                f"{line.strip()[:80]}. Write the ids as UTF-8."
            ) from None
        yield number, row


def _request(row: dict[str, Any]) -> Request:
    unknown = sorted(set(row) - set(COLUMNS))
    if unknown or not {"user", "history"} & set(row):
        raise ValueError(
            f"the keys are {', '.join(map(str, row)) or 'none'}; expected user or history, and "
            "nothing besides times."
        )
    for key in ("history", "times"):
        if key in row and not isinstance(row[key], list | tuple):
            raise ValueError(f"{key} is {row[key]!r:.80}; expected a list.")
    user, history = row.get("user", ""), row.get("history")
    if isinstance(user, dict | list) or user is None:
        raise ValueError(f"user is {user!r:.80}; expected a text or a number.")
    times = row.get("times")
    if times is not None and history is None:
        raise ValueError("times without a history; expected both, or a user alone.")
    return Request(
        str(user),
        None if history is None else tuple(str(item) for item in history),
        None if times is None else tuple(parse_time(str(time)) for time in times),
    )
