"""Expected failures in Prefect's logs: one clear message, no traceback."""

from __future__ import annotations

import logging

import httpx

from flows.dag import DagError
from flows.reproduce import StageFailedError
from tasks.lock import WorkspaceBusyError
from tasks.settings import SettingsError


class ExperimentFailedError(RuntimeError):
    """Stages of an experiment failed; the message names them and says what to do.

    Args:
        message: For people.
        exit_code: What the command ends with: 3 where the checks before training found a fault, 2
            where data or settings can't be used, else 1.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class PrefectAwayError(RuntimeError):
    """The Prefect server went while a run was working, and did not come back."""

    exit_code = 1

    def __init__(self, url: str, error: Exception) -> None:
        super().__init__(
            f"The Prefect server at {url} does not answer any more ({type(error).__name__}). "
            "Stages that ended are kept; the same command continues there. Start the server "
            "again, or unset PREFECT_API_URL."
        )


EXPECTED = (DagError, ExperimentFailedError, StageFailedError, WorkspaceBusyError, SettingsError)


class WithoutTraceback(logging.Filter):
    """Turns the log record of an expected error, or of a server that is away, into its message."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record, never drop it."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if isinstance(error, (*EXPECTED, httpx.TransportError)):
            record.msg, record.args, record.exc_info = str(error), (), None
        return True


def shorten_expected_errors() -> None:
    """Install the filter where Prefect logs what ends flows and tasks."""
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logger = logging.getLogger(name)
        if not any(isinstance(each, WithoutTraceback) for each in logger.filters):
            logger.addFilter(WithoutTraceback())
