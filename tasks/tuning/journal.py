"""Mends the file that keeps a search where a kill or a power cut tore it.

Optuna replays the file from its first line and can't read past one that is torn, so a search would
end with the write it was killed in. Lines stand in the order of what happened: the sound ones
before the first torn one are a whole search up to that moment.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from tasks.data.storage import write_whole

logger = logging.getLogger("assay.tuning")


def mend_journal(path: Path) -> int:
    """Cut a journal back to its sound lines; what is cut off is kept beside it.

    Call it while no other process writes.

    Args:
        path: The journal; it may be missing.

    Returns:
        Bytes that were cut off.
    """
    if not path.is_file():
        return 0
    content = path.read_bytes()
    sound = _sound_bytes(content)
    lost = content[sound:]
    if not lost:
        return 0
    aside = path.with_name(f"{path.name}.damaged")
    with aside.open("ab") as file:
        file.write(lost.rstrip(b"\n") + b"\n")
        file.flush()
        os.fsync(file.fileno())
    write_whole(path, content[:sound])
    logger.warning(
        "%s was damaged at line %d: the search goes on from the line before, and the %d bytes from "
        "there on are kept in %s.",
        path,
        content[:sound].count(b"\n") + 1,
        len(lost),
        aside.name,
    )
    return len(lost)


def _sound_bytes(content: bytes) -> int:
    """Length of the whole lines that hold one JSON object each.

    >>> _sound_bytes(b'{"a": 1}\\n{"b"')
    9
    """
    sound = 0
    for line in content.splitlines(keepends=True):
        try:
            is_sound = line.endswith(b"\n") and isinstance(json.loads(line), dict)
        except ValueError:
            is_sound = False
        if not is_sound:
            break
        sound += len(line)
    return sound
