"""Keeps passwords and tokens out of logs and of everything that goes to MLflow."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping

SECRET_NAMES = re.compile(
    r"TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|PASS(?:_|$)|CREDENTIAL|AUTH_STRING|BASIC_?AUTH"
    r"|CONNECTION_?STRING|WEBHOOK|COOKIE"
    r"|(?:API|ACCESS|PRIVATE|SIGNING|ENCRYPTION|STORAGE|ACCOUNT|MASTER)_?KEY",
    re.I,
)
IN_ADDRESS = re.compile(r"(?<=://)[^/@\s\"']+@")
MIN_LENGTH = 6
"""Shorter values would be found in innocent text."""
HIDDEN = "***"


def hide_secrets(text: str, environment: Mapping[str, str] | None = None) -> str:
    """Blot out logins in addresses, and values of environment variables named like secrets.

    >>> hide_secrets("no answer from https://me:pass@host/x", {})
    'no answer from https://***@host/x'
    >>> hide_secrets("refused abcdef123", {"MY_TOKEN": "abcdef123", "HOME": "refused"})
    'refused ***'

    Args:
        text: Anything that is written where others may read it.
        environment: Variables; those of this process by default.
    """
    text = IN_ADDRESS.sub(f"{HIDDEN}@", text)
    for name, value in (os.environ if environment is None else environment).items():
        if len(value) < MIN_LENGTH or not SECRET_NAMES.search(name):
            continue
        # Whole where it stands whole; keys of many lines are also logged line by line.
        for part in (value, *value.splitlines()):
            if len(part) >= MIN_LENGTH:
                for form in (part, json.dumps(part)[1:-1]):
                    text = text.replace(form, HIDDEN)
    return text
