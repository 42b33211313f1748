import pytest
import torch

from benchmarks import kept
from benchmarks.cells import measure
from benchmarks.guard import SUBJECTS, measure_key_rows, regressions, slowed


def test_a_planted_slowdown_is_found():
    x = torch.randn(150, 150)

    def work():
        for _ in range(20):
            torch.mm(x, x)

    before = {"row": measure({"lstm": work, "ours": work}, rounds=25)}
    after = {"row": measure({"lstm": work, "ours": slowed(work)}, rounds=25)}
    assert [line.split(":")[0] for line in regressions(after, before, 1.6)] == ["row, ours"]
    assert not regressions(before, before, 1.6)


def test_rows_without_a_kept_number_are_not_judged():
    measured = {"row": {"ours": {"ratio": 9.0}}}
    assert not regressions(measured, {}, 1.6)
    assert not regressions(measured, {"row": {}}, 1.6)


@pytest.mark.long
def test_no_ratio_of_the_key_rows_grew_beyond_its_kept_one():
    assert not regressions(measure_key_rows(9), kept.read("cells"), 1.6)


@pytest.mark.long
@pytest.mark.parametrize("name", SUBJECTS)
def test_a_stack_made_slower_fails_the_guard(name):
    found = regressions(measure_key_rows(5, slow=name), kept.read("cells"), 1.6)
    assert any(line.startswith("training") and name in line for line in found)
