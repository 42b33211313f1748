"""Settings of Prefect that have to be in place before it is imported."""

from __future__ import annotations

import os

from tasks import quiet

STARTUP_SECONDS = "300"


def prepare() -> None:
    """Turn telemetry off and give the temporary server the time its first start takes."""
    quiet.silence_telemetry()
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", STARTUP_SECONDS)
