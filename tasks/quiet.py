"""Keeps the tools from calling home. Imported before any of them."""

from __future__ import annotations

import os

TELEMETRY_OFF = {
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "1",
    # MLflow accepts only the literal `true`.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}


def silence_telemetry() -> None:
    """Set the environment so that Prefect, DVC and MLflow send nothing, here and in children."""
    os.environ.update(TELEMETRY_OFF)
