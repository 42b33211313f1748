"""What every planted fault promises."""

from __future__ import annotations

import pytest

from tasks.diagnostics.stages import STAGES
from tasks.faults import FAULTS
from tasks.faults.fault import Fault

every_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)


def test_ids_are_distinct() -> None:
    assert len({fault.id for fault in FAULTS}) == len(FAULTS)


@every_fault
def test_labels_are_complete(fault: Fault) -> None:
    assert fault.expected
    assert fault.stages
    assert fault.stages <= set(STAGES)
    assert fault.source
    assert fault.title


def test_contradicting_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="to fire and to be quiet"):
        Fault(
            id="both",
            title="",
            layer="data",
            severity=1.0,
            source="",
            expected=frozenset({"a"}),
            stages=frozenset({"order"}),
            quiet=frozenset({"a"}),
            apply=lambda subject: subject,
        )
