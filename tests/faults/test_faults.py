"""What every planted fault and healthy variant promises."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from tasks.diagnostics.questions import QUESTIONS
from tasks.diagnostics.stages import STAGES
from tasks.diagnostics.subject import Subject
from tasks.faults import FAULTS, HELD_OUT, VARIANTS
from tasks.faults.fault import Fault, HealthyVariant
from tasks.faults.labels import IDS, asks
from tasks.faults.planting import change_core, change_hidden, redeclare
from tasks.faults.review import DEFECTS

every_fault = pytest.mark.parametrize("fault", [*FAULTS, *HELD_OUT], ids=lambda fault: fault.id)


def test_ids_are_distinct() -> None:
    ids = [entry.id for entry in (*FAULTS, *HELD_OUT, *VARIANTS)]
    assert len(set(ids)) == len(ids)


def test_numbers_name_the_questions_that_exist() -> None:
    assert len(IDS) == len(set(IDS.values())) == 50
    wrong = [q.id for q in QUESTIONS if IDS.get(q.number) != q.id]
    assert wrong == []


def test_all_fifty_questions_are_expected_of_some_listed_fault_or_need_a_training() -> None:
    expected = frozenset().union(*(fault.expected for fault in FAULTS))
    # Answered by trainings of several models: every fault of the core turns them red in deep mode.
    by_training = asks("G1 G24 G25 X1 X24 X25")
    assert set(IDS.values()) - expected <= by_training


def test_the_twelve_defects_of_the_review_are_planted() -> None:
    assert len(DEFECTS) == 12
    assert set(DEFECTS) <= {fault.id for fault in FAULTS}


@every_fault
def test_labels_are_complete(fault: Fault) -> None:
    assert fault.expected
    assert fault.expected <= set(IDS.values())
    assert fault.stages
    assert fault.stages <= set(STAGES)
    assert fault.source
    assert fault.title


def _fault(**more: object) -> Fault:
    label = {"expected": asks("X2"), "stages": frozenset({"order"})}
    return Fault("one", "", "data", "", **{**label, **more})


def test_contradicting_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="to fire and to be quiet"):
        _fault(quiet=asks("X2"), settings={"dropout": 0.5})


def test_a_fault_that_changes_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="changes nothing"):
        _fault()


@pytest.mark.parametrize("severity", [0.0, 1.5])
def test_a_severity_outside_its_range_is_refused(severity: float) -> None:
    with pytest.raises(ValueError, match="expected 0 < severity <= 1"):
        _fault(severity=severity, settings={"dropout": 0.5})


def test_a_planted_fault_names_itself_and_leaves_the_original() -> None:
    clean = Subject("clean")
    fault = _fault(apply=lambda subject: redeclare(subject, dropout=0.5))
    assert fault.plant(clean).name == "clean with one"
    assert fault.plant(clean).declared.dropout == 0.5
    assert clean.declared.dropout == 0.0


class _Doubled:
    def forward(self, x, *, mask=None, state=None):
        y, after = super().forward(x, mask=mask, state=state)
        return 2 * y, after


def test_a_swapped_class_stays_wrong_in_copies(gru: Subject) -> None:
    wrong = change_core(gru, _Doubled).build_model(gru.ready.data.num_items, 0)
    right = gru.build_model(gru.ready.data.num_items, 0)
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        hidden = right.encode(ids)[0]
        assert torch.allclose(wrong.encode(ids)[0], 2 * hidden)
        assert torch.allclose(copy.deepcopy(wrong).encode(ids)[0], 2 * hidden)


def test_hidden_states_are_changed_in_passes_and_in_steps(gru: Subject) -> None:
    changed = change_hidden(gru, lambda hidden, mask: hidden + 1)
    wrong = changed.build_model(gru.ready.data.num_items, 0)
    right = gru.build_model(gru.ready.data.num_items, 0)
    ids, state = torch.tensor([[1, 2]]), right.initial_state(1)
    with torch.no_grad():
        assert torch.allclose(wrong.encode(ids)[0], right.encode(ids)[0] + 1)
        assert torch.allclose(wrong.step(ids[:, 0], state)[0], right.step(ids[:, 0], state)[0] + 1)


def test_a_model_without_an_embedding_can_not_take_an_embedding_fault(gru: Subject) -> None:
    fault = next(fault for fault in FAULTS if fault.id == "emb_zero")
    bare = gru.replace(build_model=lambda num_items, seed: torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"holds no nn\.Embedding"):
        fault.plant(bare).build_model(5, 0)


def test_variants_are_no_faults() -> None:
    assert all(isinstance(variant, HealthyVariant) for variant in VARIANTS)
    assert np.all([variant.title for variant in VARIANTS])
