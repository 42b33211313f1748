"""``assay recommend --explain``: which events moved the first item of each answer."""

from __future__ import annotations

import json
from typing import Any

from flows.recommend_command import Desk, as_text, requests_of
from flows.terminal import plain

SHOWN = 10
"""Events listed for people; JSON holds all."""


def explain(desk: Desk, users: list[str], history: str | None, times: str, as_json: bool) -> None:
    """Answer users or a history, and explain the first item of each answer.

    An answer by popularity has nothing to explain: its ``explained`` is null.
    """
    from tasks.serving.explain_stage import explained

    service = desk.workspace.service
    for request in requests_of(users, history, times):
        query = desk.query(request)
        (document,) = desk.answers([request])
        about: dict[str, Any] | None = None
        if len(query.history.items):
            (best,) = service.answer(
                [query], top_k=desk.settings.top_k, exclude_seen=desk.settings.exclude_seen
            )
            about = explained(service, query, best)
        if as_json:
            events = about and {
                "item": about["recommended"][0]["item"],
                "history": about["history"],
            }
            print(json.dumps(document | {"explained": events}, ensure_ascii=False))
        else:
            print(as_text(document))
            print(explained_text(about))


def explained_text(about: dict[str, Any] | None) -> str:
    """The events that moved an item most, as lines for people."""
    if about is None:
        return "  no event to explain by"
    item = about["recommended"][0]["item"]
    lines = [
        f"  What moved {item}: influence is its score above the catalogue's mean minus the same",
        "  without the event; gradient is the pull at the margin (gradient times embedding).",
    ]
    ranked = sorted(about["history"], key=lambda event: -abs(event["influence"]))
    for event in ranked[:SHOWN]:
        pull = "" if event["gradient"] is None else f"  gradient {event['gradient']:+.3g}"
        time = f"  {event['time']}" if event["time"] else ""
        lines.append(f"  {event['influence']:+10.4f}  {event['item']}{time}{pull}")
    if len(ranked) > SHOWN:
        lines.append(f"  and {len(ranked) - SHOWN} events with less influence")
    return "\n".join(map(plain, lines))
