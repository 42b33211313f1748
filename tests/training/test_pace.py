"""Recording keeps to its share of the time, whatever a look costs."""

from __future__ import annotations

import itertools

import pytest

from tasks.training.pace import GROWTH, RecordingPace


class Clock:
    """Seconds that pass only where the test says so."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


def record_run(pace, clock, num_steps, *, step=0.01, look=0.2, compiling=0.0, slow_at=None):
    """Recorded steps, and the share of the time after the first that they took."""
    recorded, spent, begun = [], 0.0, 0.0
    for number in range(1, num_steps + 1):
        if pace.wants(number):
            pace.begin(number)
            cost = look + step + (compiling if number == 1 else 0.0)
            cost += 50 * look if slow_at is not None and len(recorded) == slow_at else 0.0
            clock.seconds += cost
            pace.end(number)
            if recorded:
                spent += cost
            else:
                begun = clock.seconds
            recorded.append(number)
        else:
            clock.seconds += step
    return recorded, spent / (clock.seconds - begun)


def test_costly_looks_are_rare():
    clock = Clock()
    recorded, share = record_run(RecordingPace(20, 0.04, clock), clock, 20_000, compiling=60.0)
    assert recorded[:2] == [1, 21]
    assert share < 0.045
    assert len(recorded) > 20


def test_cheap_looks_keep_the_distance_asked_for():
    clock = Clock()
    recorded, share = record_run(RecordingPace(20, 0.5, clock), clock, 200, look=0.0)
    assert recorded == [1, *range(21, 201, 20)]
    assert share < 0.1


def test_one_slow_look_widens_the_distance_by_a_bounded_factor_and_is_forgotten():
    clock = Clock()
    pace = RecordingPace(20, 0.2, clock)
    recorded, _ = record_run(pace, clock, 3_000, slow_at=1)
    gaps = [after - before for before, after in itertools.pairwise(recorded)]
    assert gaps[1] == GROWTH * 20  # after the slow one
    assert gaps[-1] == pytest.approx(105, abs=1)  # .21 s of .2 times .01 s a step


def test_a_resumed_run_waits_its_distance():
    pace = RecordingPace(20, 0.04, Clock())
    pace.start(130)
    assert next(step for step in range(131, 160) if pace.wants(step)) == 150


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match=f"share is {share}; expected a number between 0 and 1"):
        RecordingPace(20, share)
