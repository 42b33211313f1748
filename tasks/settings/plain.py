"""Refuses what YAML can hold and settings can't: cycles, bombs of aliases, odd keys and values."""

from __future__ import annotations

from datetime import date
from typing import Any

MAX_DEPTH = 20
MAX_VALUES = 100_000
"""Values a file may hold once every alias is written out."""


class SettingsError(ValueError):
    """Settings that can't be used; the message lists every problem with its path."""


def check_plain(value: Any, origin: str) -> None:
    """Check that parsed YAML is a tree of sections, lists and plain values.

    >>> check_plain({"data": {"cutoffs": [1, 2]}}, "params.yaml")

    Args:
        value: What the parser returned.
        origin: File or override, for the message.

    Raises:
        SettingsError: it holds itself, nests or repeats without bounds, or has other keys or
            values than text, numbers, booleans and dates.
    """
    size = _size(value, origin, {}, 0)
    if size > MAX_VALUES:
        raise SettingsError(
            f"{origin} holds {size} values once its aliases are written out; expected at most "
            f"{MAX_VALUES}. Remove the aliases (*name)."
        )


def _size(value: Any, origin: str, known: dict[int, int], depth: int) -> int:
    if depth > MAX_DEPTH:
        raise SettingsError(
            f"{origin} nests deeper than {MAX_DEPTH} levels, or holds itself through an alias; "
            "expected sections of settings. Remove the alias (*name) or the brackets."
        )
    if isinstance(value, dict):
        _check_keys(value, origin)
        children = list(value.values())
    elif isinstance(value, list | tuple | set):
        children = list(value)
    elif value is None or isinstance(value, str | bool | int | float | date):
        return 1
    else:
        raise SettingsError(
            f"{origin} holds a value of type {type(value).__name__}; expected text, a number, "
            "true or false, a list or a section."
        )
    if id(value) not in known:
        known[id(value)] = 1 + sum(_size(child, origin, known, depth + 1) for child in children)
    return known[id(value)]


def _check_keys(section: dict[Any, Any], origin: str) -> None:
    for key in section:
        if not isinstance(key, str | int | float | bool) and key is not None:
            raise SettingsError(
                f"{origin} has the key {key!r:.80}; expected the name of a setting, as text."
            )
