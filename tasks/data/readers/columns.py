"""Which column of a log plays which role."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

from tasks.data.readers.errors import DataError, shorten
from tasks.data.readers.report import ROLES, Role

ALIASES: dict[Role, tuple[str, ...]] = {
    "user_id": (
        "userid", "user", "uid", "sessionid", "session", "customerid", "customer", "visitorid",
        "reviewerid", "memberid", "accountid", "clientid",
    ),
    "item_id": (
        "itemid", "item", "iid", "movieid", "movie", "productid", "product", "parentasin", "asin",
        "aid", "trackid", "songid", "bookid", "businessid", "articleid", "contentid", "sku",
    ),
    "timestamp": (
        "timestamp", "ts", "time", "datetime", "date", "eventtime", "unixreviewtime",
        "reviewtime", "createdat", "unixtime", "t",
    ),
    "rating": ("rating", "ratings", "overall", "stars", "score"),
}  # fmt: skip
"""Names a role goes by when it was not named otherwise, best first; compared by ``normalize``."""

SETTING: dict[Role, str] = {
    "user_id": "data.user_column",
    "item_id": "data.item_column",
    "timestamp": "data.time_column",
    "rating": "data.rating_column",
}

SHOWN_NAMES = 30


def normalize(name: str) -> str:
    """Reduce a column name to lower-case letters and digits of its last part.

    >>> normalize("events.User_ID")
    'userid'
    """
    return re.sub(r"[^0-9a-z]", "", name.rsplit(".", 1)[-1].lower())


def is_known_name(name: str, requested: Mapping[Role, str]) -> bool:
    """Tell if a text is a requested column name or one of the usual ones."""
    return name in requested.values() or any(normalize(name) in names for names in ALIASES.values())


def resolve_columns(
    found: Sequence[str], requested: Mapping[Role, str], label: str
) -> dict[Role, str]:
    """Find the column of every role.

    A name asked for must exist, except that a role's own default name (``user_id``, ...) stands
    for any of its usual names. The rating is optional unless it was asked for by another name.

    Args:
        found: Column names of the file.
        requested: Role -> name asked for.
        label: The file, for messages.

    Raises:
        DataError: A column is missing, ambiguous, or used for two roles.

    >>> asked = {role: role for role in ("user_id", "item_id", "timestamp", "rating")}
    >>> resolve_columns(["userId", "movieId", "ts"], asked, "x.csv")
    {'user_id': 'userId', 'item_id': 'movieId', 'timestamp': 'ts'}
    """
    mapping: dict[Role, str] = {}
    problems = []
    for role in ROLES:
        name = requested.get(role, role)
        hit = name if name in found else _find_alias(role, found) if name == role else None
        if hit is not None:
            mapping[role] = hit
        elif role != "rating" or name not in ("", role):
            problems.append(_describe_missing(role, name, found))
    if problems:
        raise DataError(f"{label} has the columns {list_names(found)}; " + " ".join(problems))
    _check_distinct(mapping, found, label)
    return mapping


def list_names(found: Sequence[str]) -> str:
    """The names of columns for a message, the first of them where there are many.

    >>> list_names(["user", "item"])
    "'user', 'item'"
    """
    shown = ", ".join(shorten(name) for name in found[:SHOWN_NAMES])
    left = len(found) - SHOWN_NAMES
    return f"{shown} and {left:,} more" if left > 0 else shown


def _find_alias(role: Role, found: Sequence[str]) -> str | None:
    known = {normalize(name): name for name in reversed(found)}
    return next((known[alias] for alias in ALIASES[role] if alias in known), None)


def _describe_missing(role: Role, name: str, found: Sequence[str]) -> str:
    near = difflib.get_close_matches(name.lower(), [n.lower() for n in found], n=1, cutoff=0.5)
    original = next((n for n in found if near and n.lower() == near[0]), None)
    hint = f" The nearest is {original!r}." if original else ""
    return f"no column {name!r} for {role}.{hint} Set {SETTING[role]} to one of them."


def _check_distinct(mapping: Mapping[Role, str], found: Sequence[str], label: str) -> None:
    roles = list(mapping)
    for position, role in enumerate(roles):
        name = mapping[role]
        if list(found).count(name) > 1:
            places = [str(i + 1) for i, other in enumerate(found) if other == name]
            raise DataError(
                f"{label} has {len(places)} columns named {name!r} (numbers {', '.join(places)}), "
                f"and {role} needs one. Rename all but one in the file."
            )
        for other in roles[:position]:
            if mapping[other] == name:
                raise DataError(
                    f"{label}: column {name!r} would be both {other} and {role}. "
                    f"Set {SETTING[other]} and {SETTING[role]} to different columns."
                )
