"""The one exception of everything that reads logs."""

from __future__ import annotations


class DataError(ValueError):
    """A log can't be read. The message names the file, the place, the value and the next step."""


def shorten(value: object, limit: int = 80) -> str:
    """Return ``repr(value)`` cut to ``limit`` characters, for use in messages.

    >>> shorten("a" * 200, limit=10)
    "'aaaaaa..."
    """
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
