"""What a terminal may be shown of a user's data."""

from __future__ import annotations

import unicodedata

STEERING = ("Cc", "Cs", "Zl", "Zp")
"""Categories of characters that steer a terminal or break a line."""
TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that turn around what follows."""


def plain(line: str) -> str:
    """One line without characters that steer a terminal: they are shown by their codes.

    >>> plain("Star Wars")
    'Star Wars'
    >>> print(plain("red \\x1b[31m, two\\nlines, \\u202eright to left"))
    red \\x1b[31m, two\\nlines, \\u202eright to left
    """
    return "".join(
        each.encode("unicode_escape").decode()
        if each in TURNING or unicodedata.category(each) in STEERING
        else each
        for each in line
    )
