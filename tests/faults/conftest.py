"""The clean program, built once."""

from __future__ import annotations

import pytest

from tasks.diagnostics.subject import Subject
from tasks.fault_benchmark.clean import clean_subject
from tasks.fault_benchmark.logs import SYNTHETIC


@pytest.fixture(scope="session")
def gru() -> Subject:
    """The pipeline's GRU on a small log."""
    return clean_subject(SYNTHETIC, "gru", 0, {"num_users": 40})
