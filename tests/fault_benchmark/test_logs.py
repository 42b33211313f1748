"""Logs of the benchmark: edits do what they say, and splits of them leave something to test."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.diagnostics.subject import RawLog
from tasks.fault_benchmark import log_edits
from tasks.fault_benchmark.clean import clean_subject
from tasks.fault_benchmark.logs import SYNTHETIC
from tasks.fault_benchmark.plan import DEVELOPMENT_SEEDS, SCORING_SEEDS
from tasks.faults import VARIANTS

SPLIT_BY_TIME = [v for v in VARIANTS if v.settings.get("split") == "temporal"]


def test_users_stay_longer_and_keep_their_order() -> None:
    log = RawLog(np.array(["a", "b", "a", "b"]), np.array(list("wxyz")), np.array([5, 7, 8, 7]))
    longer = log_edits.stretch_times(log, 10, np.random.default_rng(0))
    assert longer.time.tolist() == [5, 7, 35, 7]
    assert (longer.user.tolist(), longer.item.tolist()) == (log.user.tolist(), log.item.tolist())


@pytest.mark.parametrize("seed", [*DEVELOPMENT_SEEDS, *SCORING_SEEDS])
@pytest.mark.parametrize("variant", SPLIT_BY_TIME, ids=lambda variant: variant.id)
def test_a_split_by_time_leaves_targets(variant, seed: int) -> None:
    data = clean_subject(SYNTHETIC, "gru", seed, variant.settings).ready.data
    assert min(len(data.val.targets), len(data.test.targets)) >= 15
    assert data.train.times.max() < data.test.target_times.min()
