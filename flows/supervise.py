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

GRACE_SECONDS = 30.0
"""Time a stage has to write its checkpoint after SIGTERM."""


def main(command: list[str]) -> int:
    """Run ``command`` to its end and return its exit code, 128 + N after signal N."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen(  # noqa: S603 - the caller's command, no shell
        command, stdin=subprocess.DEVNULL, start_new_session=True
    )
    stopping = threading.Event()
    stopped = threading.Event()
    watcher = threading.Thread(target=_watch, args=(child.pid, stopping, stopped), daemon=True)
    watcher.start()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set() or os.close(sys.stdin.fileno()))
    code = child.wait()
    if stopping.is_set():
        # The command's own children may still be writing their checkpoints.
        stopped.wait()
    return code if code >= 0 else 128 - code


def _watch(group: int, stopping: threading.Event, stopped: threading.Event) -> None:
    try:
        while os.read(sys.stdin.fileno(), 1):
            pass
    except OSError:
        pass
    stopping.set()
    end_group(group, GRACE_SECONDS)
    stopped.set()


def end_group(group: int, grace_seconds: float) -> None:
    """Ask a process group to end, wait, and kill what is left of it."""
    deadline = time.monotonic() + grace_seconds
    kind = signal.SIGTERM
    try:
        os.killpg(group, kind)
        while time.monotonic() < deadline:
            time.sleep(0.05)
            os.killpg(group, 0)
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
