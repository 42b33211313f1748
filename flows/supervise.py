"""``python -m flows.supervise COMMAND...``: runs a command and never outlives whoever started it.

The command gets a process group of its own. When standard input closes - because the flow asked
for an end, or because it died, however abruptly - the whole group is asked to end, and after a
grace period made to.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

GRACE_SECONDS = 30.0
"""Time a stage has to write its checkpoint after SIGTERM."""


def main(command: list[str]) -> int:
    """Run ``command`` to its end and return its exit code, 128 + N after signal N."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen(  # noqa: S603 - the caller's command, no shell
        command, stdin=subprocess.DEVNULL, start_new_session=True
    )
    ending: list[threading.Thread] = []

    def end(*_: object) -> None:
        if not ending:
            ending.append(threading.Thread(target=end_group, args=(child.pid, GRACE_SECONDS)))
            ending[0].start()

    signal.signal(signal.SIGTERM, end)
    threading.Thread(target=_await_end_of_input, args=(end,), daemon=True).start()
    code = child.wait()
    for thread in ending:
        # The command's own children may still be writing their checkpoints.
        thread.join()
    return code if code >= 0 else 128 - code


def _await_end_of_input(end: Callable[[], None]) -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    end()


def end_group(group: int, grace_seconds: float) -> None:
    """Ask a process group to end, wait, and kill what is left of it.

    Args:
        group: Its id.
        grace_seconds: How long its processes have to end by themselves.
    """
    deadline = time.monotonic() + grace_seconds
    try:
        os.killpg(group, signal.SIGTERM)
        while time.monotonic() < deadline:
            time.sleep(0.05)
            os.killpg(group, 0)
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
