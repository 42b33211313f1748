"""Why a fault is missed or mislocated, or a healthy program turns red: what was found by hand."""

from __future__ import annotations

REASONS: dict[str, str] = {}
"""Id of a fault or variant -> the reason, one sentence."""
