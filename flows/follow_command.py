"""``assay recommend --follow``: events come in on stdin, an answer goes out for each."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from flows.recommend_command import Desk
from flows.terminal import plain
from tasks.serving.incremental import IncrementalRecommender
from tasks.serving.requests import RequestError, parse_time


def follow(desk: Desk, as_json: bool) -> int:
    """Answer stdin until it ends; see `answer_lines`."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        # A line that is no UTF-8 costs itself, not all that follow.
        sys.stdin.reconfigure(errors="surrogateescape")
    return answer_lines(desk, sys.stdin, sys.stdout, sys.stderr, as_json)


def answer_lines(
    desk: Desk, lines: Iterable[str], answers: TextIO, messages: TextIO, as_json: bool
) -> int:
    """Feed events ``user,item[,time]`` to the model and write one answer per event.

    A user of the prepared data starts from their history there, read once; later events cost one
    step each. An unknown item leaves the user's state as it is, and the answer says so.

    Args:
        desk: The workspace and how it answers.
        lines: CSV lines; empty ones are passed over.
        answers: Takes the answers, one line each, written out at once.
        messages: Takes what is wrong with a line, and a summary at the end.
        as_json: Write JSON instead of the names of the items.

    Returns:
        0, or 2 where a line could not be read.
    """
    service, settings = desk.workspace.service, desk.settings
    incremental = IncrementalRecommender(
        service.model,
        max_len=service.max_len,
        max_users=settings.max_users,
        popularity=service.popularity if settings.empty_history == "popularity" else None,
        history_of=desk.workspace.users.of_anyone,
        seen_window=settings.seen_window if settings.exclude_seen else 0,
    )
    counts = {"answered": 0, "unreadable": 0, "unknown_items": 0}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            document = answer_event(desk, incremental, line)
        except ValueError as error:
            counts["unreadable"] += 1
            print(plain(f"line {number}: {error}"), file=messages)
            continue
        counts["answered"] += 1
        counts["unknown_items"] += len(document["unknown"])
        print(_shown(document, as_json), file=answers, flush=True)
    store = incremental.store
    print(
        f"{counts['answered']} events answered, {counts['unreadable']} lines could not be read, "
        f"{counts['unknown_items']} unknown items left out; {len(store)} users kept in "
        f"{store.nbytes / 2**20:.1f} MiB, {store.evicted} dropped to make room.",
        file=messages,
    )
    return 2 if counts["unreadable"] else 0


def answer_event(desk: Desk, incremental: IncrementalRecommender, line: str) -> dict[str, Any]:
    """Take in one line ``user,item[,time]`` and return the answer as JSON shows it.

    Raises:
        ValueError: the line can't be used; the user's state is as before.
    """
    user, text, time = parse_event(line)
    catalogue = desk.workspace.service.catalogue
    item = catalogue.encode(text)
    if item:
        incremental.feed(user, item, time)
    best = incremental.recommend(user, desk.settings.top_k)
    notes = [] if item else [f"unknown item {text!r} was left out"]
    if best.answered_by == "popularity" and incremental.events(user) == 0:
        notes.append("no known event: the most popular items answer")
    return {
        "label": user,
        "answered_by": best.answered_by,
        "events": incremental.events(user),
        "unknown": [] if item else [text],
        "notes": notes,
        "recommended": [
            {"item": catalogue.raw_id(each), "name": catalogue.name(each), "score": score}
            for each, score in zip(best.items, best.scores, strict=True)
        ],
    }


def parse_event(line: str) -> tuple[str, str, int | None]:
    """User, item and time (microseconds, None where absent) of a line.

    >>> parse_event('7,"Good, the Bad and the Ugly, The",12')
    ('7', 'Good, the Bad and the Ugly, The', 12000000)
    """
    try:
        line.encode()
    except UnicodeEncodeError:
        raise RequestError(f"{line.strip()!r:.80} is not UTF-8.") from None
    try:
        (cells,) = csv.reader([line.strip()], skipinitialspace=True)
    except (csv.Error, ValueError) as error:
        raise RequestError(f"{line.strip()!r:.80} is not CSV: {error}.") from None
    cells = [cell.strip() for cell in cells]
    if len(cells) not in (2, 3) or not cells[0] or not cells[1]:
        raise RequestError(f"{line.strip()!r:.80}; expected user,item or user,item,time.")
    return cells[0], cells[1], parse_time(cells[2]) if len(cells) == 3 else None


def _shown(document: dict[str, Any], as_json: bool) -> str:
    if as_json:
        return json.dumps(document, ensure_ascii=False)
    names = ", ".join(each["name"] for each in document["recommended"])
    notes = "".join(f" ({note})" for note in document["notes"])
    return plain(f"{document['label']}: {names}{notes}")
