"""``assay recommend``: users, histories and files answered by a trained model."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.terminal import plain
from flows.workspace import find_project, run_folder
from tasks.serving.recommend import Recommendation
from tasks.serving.requests import Request, parse_history, parse_time, read_requests
from tasks.serving.service import Query
from tasks.serving.workspace import Workspace
from tasks.settings import RecommendSettings, SettingsError, load_settings

BATCH = 2048
"""Requests of a file answered at a time."""

CSV_COLUMNS = ("request", "label", "rank", "item", "name", "score", "answered_by", "unknown")


@dataclass(frozen=True)
class Desk:
    """A workspace that answers, and how it was asked to."""

    workspace: Workspace
    settings: RecommendSettings

    def answers(self, requests: Iterable[Request]) -> list[dict[str, Any]]:
        """Answer requests; one object per request."""
        queries = [self.query(request) for request in requests]
        answers = self.workspace.service.answer(
            queries,
            top_k=self.settings.top_k,
            exclude_seen=self.settings.exclude_seen,
            empty_by_popularity=self.settings.empty_history == "popularity",
        )
        return [self.document(q, a) for q, a in zip(queries, answers, strict=True)]

    def query(self, request: Request) -> Query:
        """The history of a request, looked up or encoded."""
        if request.history is None:
            return self.workspace.query_of_user(request.user)
        return self.workspace.service.query(request.history, request.times, request.user)

    def document(self, query: Query, answer: Recommendation) -> dict[str, Any]:
        """One answer, as JSON shows it."""
        catalogue = self.workspace.service.catalogue
        notes = list(query.notes)
        if query.unknown:
            notes.append(f"unknown items were left out: {', '.join(query.unknown)}")
        if answer.answered_by == "popularity" and len(query.history.items) == 0:
            notes.append("no known event: the most popular items answer")
        pairs = zip(answer.items, answer.scores, strict=True)
        return {
            "label": query.label,
            "answered_by": answer.answered_by,
            "events": len(query.history.items),
            "unknown": list(query.unknown),
            "notes": notes,
            "recommended": [
                {"item": catalogue.raw_id(item), "name": catalogue.name(item), "score": score}
                for item, score in pairs
            ],
        }


def open_desk(
    start: Path,
    run: str,
    model: str,
    seed: int | None,
    items: Path | None,
    *,
    top_k: int = 0,
    exclude_seen: bool | None = None,
) -> Desk:
    """Load settings and model of a run.

    Args:
        start: Where the user stands.
        run: Folder below ``runs/``; the project itself when empty.
        model: The model; the best by validation when empty.
        seed: Its seed; the best by validation when None.
        items: CSV with names; the setting ``recommend.item_table`` when None.
        top_k: Items per answer; the setting when 0.
        exclude_seen: Leave out items of the history; the setting when None.

    Raises:
        ValueError: no such run or model.
    """
    project = find_project(start)
    folder = run_folder(project, run)
    if not (folder / "params.yaml").is_file():
        known = sorted(path.parent.name for path in (project / "runs").glob("*/params.yaml"))
        raise SettingsError(
            f"run {run!r} does not exist; expected one of: {', '.join(known) or 'none yet'}."
        )
    chosen = load_settings(folder / "params.yaml").recommend.model_dump()
    chosen |= {"top_k": top_k} if top_k else {}
    chosen |= {} if exclude_seen is None else {"exclude_seen": exclude_seen}
    table = items
    if table is None and chosen["item_table"]:
        table = folder / chosen["item_table"]
    workspace = Workspace.open(folder, model, seed, table)
    return Desk(workspace, RecommendSettings.model_validate(chosen))


def answer(
    desk: Desk,
    users: list[str],
    history: str | None,
    times: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """Answer users, or one history."""
    _deliver(desk.answers(requests_of(users, history, times)), output, as_json)


def requests_of(users: list[str], history: str | None, times: str) -> list[Request]:
    """Requests for users, or for one history with its times."""
    if history is None:
        return [Request(user) for user in users]
    moments = tuple(parse_time(time) for time in parse_history(times)) if times else None
    return [Request(history=parse_history(history), times=moments)]


def answer_file(desk: Desk, batch: Path, output: Path | None, as_json: bool) -> None:
    """Answer a file of requests, some thousand at a time, and say what was not as expected."""
    requests = read_requests(batch)
    counts = {"requests": 0, "by_popularity": 0, "unknown_items": 0, "unknown_users": 0}

    def documents() -> Iterator[dict[str, Any]]:
        while part := list(itertools.islice(requests, BATCH)):
            for document in desk.answers(part):
                counts["requests"] += 1
                counts["by_popularity"] += document["answered_by"] == "popularity"
                counts["unknown_items"] += len(document["unknown"])
                counts["unknown_users"] += any("not in the" in note for note in document["notes"])
                yield document

    _deliver(documents(), output, as_json)
    print(
        f"{counts['requests']} requests answered, {counts['by_popularity']} of them by popularity; "
        f"{counts['unknown_users']} unknown users, {counts['unknown_items']} unknown items left "
        "out.",
        file=sys.stderr,
    )


def _deliver(documents: Iterable[dict[str, Any]], output: Path | None, as_json: bool) -> None:
    if output is None:
        for document in documents:
            print(json.dumps(document, ensure_ascii=False) if as_json else as_text(document))
        return
    write_answers(documents, output)


def write_answers(documents: Iterable[dict[str, Any]], output: Path) -> None:
    """Write answers as ``.csv`` (one row per item) or ``.jsonl``; the file appears when complete.

    Raises:
        ValueError: another ending, or no such folder.
    """
    if output.suffix.lower() not in (".csv", ".jsonl"):
        raise ValueError(f"--output is {output}; expected a name that ends in .csv or .jsonl.")
    if not output.parent.is_dir():
        raise ValueError(f"--output is {output}; its folder does not exist. Create it first.")
    lines = _csv_lines(documents) if output.suffix.lower() == ".csv" else _json_lines(documents)
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", newline="", dir=output.parent, suffix=".part", delete=False
    ) as file:
        try:
            file.writelines(lines)
        except BaseException:
            os.unlink(file.name)
            raise
    os.chmod(file.name, 0o644)
    os.replace(file.name, output)


def _json_lines(documents: Iterable[dict[str, Any]]) -> Iterator[str]:
    for document in documents:
        yield json.dumps(document, ensure_ascii=False) + "\n"


def _csv_lines(documents: Iterable[dict[str, Any]]) -> Iterator[str]:
    yield _csv_line(CSV_COLUMNS)
    for number, document in enumerate(documents, start=1):
        for rank, each in enumerate(document["recommended"], start=1):
            row = [number, document["label"], rank, each["item"], each["name"], each["score"]]
            yield _csv_line([*row, document["answered_by"], " ".join(document["unknown"])])


def _csv_line(cells: Iterable[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


def as_text(document: dict[str, Any]) -> str:
    """An answer for people: a line about it, its notes, and one line per item.

    >>> best = [{"item": "50", "name": "Star Wars", "score": 1.25}]
    >>> print(as_text({"label": "7", "answered_by": "gru", "events": 3, "notes": [],
    ...                "recommended": best}))
    7 (3 events, gru)
       1. Star Wars [50]  1.25
    """
    lines = [f"{document['label']} ({document['events']} events, {document['answered_by']})"]
    lines += [f"  note: {note}" for note in document["notes"]]
    for rank, each in enumerate(document["recommended"], start=1):
        item = each["item"] if each["name"] == each["item"] else f"{each['name']} [{each['item']}]"
        lines.append(f"  {rank:>2}. {item}  {each['score']:.4g}")
    return "\n".join(map(plain, lines))
