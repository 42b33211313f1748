"""Evidence that no quick program gives: what trainings find, and what only some programs show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tasks.diagnostics.measurements.anchor import Anchor
from tasks.diagnostics.measurements.cure_checks import Remedies
from tasks.diagnostics.measurements.cures import Cures
from tasks.diagnostics.measurements.driven_cells import DrivenCells
from tasks.diagnostics.measurements.ladder import Ladder
from tasks.diagnostics.measurements.loss_outcome import LossOutcome
from tasks.diagnostics.measurements.overfit import Overfit
from tasks.diagnostics.measurements.plain_lstm import PlainLSTM
from tasks.diagnostics.measurements.random_labels import RandomLabels
from tasks.diagnostics.measurements.time_influence import TimeInfluence, TimeUse
from tasks.diagnostics.questions import strip_down_ladder, xlstm_overfits_one_user

MEMORISED = Overfit(
    own=0.05,
    any_rate=0.05,
    any_optimiser=0.05,
    any_loss=0.05,
    best_rate=1.0,
    steps=300,
    floor=0.1,
    uniform=3.0,
    num_rows=8,
    num_targets=80,
    seeds=1,
    budget=100,
)

WHOLE: dict[str, Any] = {
    "overfits_small_subset": MEMORISED,
    "xlstm_overfits_one_user": xlstm_overfits_one_user.Evidence(MEMORISED, None),
    "baseline_confirms_pipeline": Anchor(0.9, 1.0, 0.5, 0.1, 600),
    "lstm_learns": PlainLSTM(0.8, 1.0, None, 0.9, 1e-9, 600),
    "strip_down_ladder": strip_down_ladder.Evidence((), "", Ladder(0.8, 0.8, "", 18, 0.9)),
}
"""Evidence of questions that train models."""

TRIED = Remedies(Cures(True, 0.0, 0.1, 0.1, 0.1, 0.1, 0.1, best_rate=0.1, steps=100))
LEARNED = LossOutcome(trained=2.0, uniform=5.0, popularity=4.0, transitions=2.5, num_targets=100)

COMPLETED: dict[str, Callable[[Any], Any]] = {
    "inputs_match_targets": lambda e: replace(
        e, is_temporal=True, random=RandomLabels(0.1, 1e-9, 2), nothing_to_learn=""
    ),
    "preprocessing_same_everywhere": lambda e: replace(
        e, deletion=replace(e.deletion, unseen_ids=0)
    ),
    "output_fits_task": lambda e: replace(e, range=replace(e.range, distance_from_shares=0.5)),
    "learning_rate_suits": lambda e: replace(
        e, remedies=TRIED, use=replace(e.use, below_epsilon=1.0)
    ),
    "learning_rate_suits_depth": lambda e: replace(e, remedies=TRIED),
    "batch_stabilises_training": lambda e: replace(e, remedies=TRIED),
    "batch_and_length_suit": lambda e: replace(e, remedies=TRIED, finished=""),
    "loss_falls": lambda e: replace(
        e,
        remedies=TRIED,
        outcome=LEARNED,
        recorded=2.0,
        state=replace(e.state, levelled=True),
    ),
    "features_used": lambda e: replace(
        e,
        uses_times=True,
        use=TimeUse(TimeInfluence(on_last=0.5, on_earlier=0.0)),
        ablations=replace(e.ablations, times=3.0),
    ),
    "clipping_stops_explosions": lambda e: replace(e, driven=DrivenCells(0, 1, 1), not_driven=""),
}
"""What is put into a healthy program's evidence, so that every check has a number."""
