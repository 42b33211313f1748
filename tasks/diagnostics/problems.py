"""Why a measurement can end without a number. Anything else that is raised is a bug of ours."""

from __future__ import annotations

import traceback


class SubjectError(Exception):
    """A part of the program under diagnosis failed under a legal input: evidence, not a bug.

    Attributes:
        part: Name of the part, a field of `Subject`.
        reason: Class, message and innermost place of the failure, or what is wrong with the result.
    """

    def __init__(self, part: str, reason: str) -> None:
        super().__init__(f"{part}: {reason}")
        self.part = part
        self.reason = reason

    @classmethod
    def of(cls, part: str, error: Exception) -> SubjectError:
        """Wrap what a part raised."""
        frames = traceback.extract_tb(error.__traceback__)
        place = f" at {frames[-1].name}, line {frames[-1].lineno}" if frames else ""
        return cls(part, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}{place}")


class NotOfferedError(Exception):
    """The program under diagnosis offers no such part; the question stays undetermined."""

    def __init__(self, part: str) -> None:
        super().__init__(f"the program under diagnosis offers no `{part}`")
        self.part = part


class NotApplicableError(Exception):
    """The question does not apply to this program; the message is the proof."""


class NotMeasuredError(Exception):
    """Too little data or too small a budget; the message says what is missing."""


class DiagnosisError(RuntimeError):
    """Questions that failed by a bug of their own: the diagnosis as a whole has failed.

    Attributes:
        failures: Id of the question -> traceback.
        diagnosis: Findings of the questions that did work.
    """

    def __init__(self, failures: dict[str, str], diagnosis: object) -> None:
        listing = "\n\n".join(f"{question}:\n{text}" for question, text in failures.items())
        super().__init__(
            f"{len(failures)} question(s) failed by a bug of their own: {', '.join(failures)}. "
            f"Their answers are missing, so nothing may be called healthy.\n{listing}"
        )
        self.failures = failures
        self.diagnosis = diagnosis


class FaultFoundError(RuntimeError):
    """The checks before training found a fault: training would waste its hours.

    Attributes:
        exit_code: Of the process that ends by it, so that scripts can tell it from a failure.
    """

    exit_code = 3
