"""Planted faults and healthy variants, listed by what they spoil or change."""

from __future__ import annotations

from tasks.faults import (
    batch_faults,
    cell_faults,
    core_faults,
    embedding_faults,
    encoding_faults,
    evaluation_faults,
    further_evaluation_faults,
    further_loss_faults,
    further_program_faults,
    further_training_faults,
    handling_faults,
    held_out_faults,
    held_out_pipeline_faults,
    held_out_use_faults,
    log_faults,
    loss_faults,
    mlstm_faults,
    model_use_faults,
    optimizer_faults,
    record_faults,
    sampling_faults,
    scoring_faults,
    slstm_faults,
    split_faults,
    step_faults,
    training_faults,
    xlstm_block_faults,
)
from tasks.faults.fault import Fault, HealthyVariant
from tasks.faults.healthy_programs import PROGRAMS
from tasks.faults.healthy_variants import DATA, SETTINGS

SEEN: frozenset[str] = frozenset(
    {
        "cached_by_shape",
        "dropout_unscaled",
        "fading_output",
        "first_hundred_users",
        "in_batch_negatives",
        "large_epsilon",
        "rows_renormalised",
        "same_rows_dropped",
        "smoothing_undeclared",
        "state_of_last_batch",
        "validation_is_test",
        "whole_days",
    }
)
"""Written as held-out faults, then met again while questions were improved: listed since."""

FAULTS: tuple[Fault, ...] = (
    *log_faults.FAULTS,
    *encoding_faults.FAULTS,
    *split_faults.FAULTS,
    *batch_faults.FAULTS,
    *embedding_faults.FAULTS,
    *core_faults.FAULTS,
    *xlstm_block_faults.FAULTS,
    *slstm_faults.FAULTS,
    *mlstm_faults.FAULTS,
    *loss_faults.FAULTS,
    *optimizer_faults.FAULTS,
    *training_faults.FAULTS,
    *evaluation_faults.FAULTS,
    *further_loss_faults.FAULTS,
    *further_training_faults.FAULTS,
    *further_evaluation_faults.FAULTS,
    *further_program_faults.FAULTS,
    *handling_faults.FAULTS,
    *sampling_faults.FAULTS,
    *record_faults.FAULTS,
    *model_use_faults.FAULTS,
    *scoring_faults.FAULTS,
    *cell_faults.FAULTS,
    *step_faults.FAULTS,
    *(fault for fault in held_out_faults.FAULTS if fault.id in SEEN),
)
"""Listed faults: questions may be improved on them."""

HELD_OUT: tuple[Fault, ...] = (
    *(fault for fault in held_out_faults.FAULTS if fault.id not in SEEN),
    *held_out_use_faults.FAULTS,
    *held_out_pipeline_faults.FAULTS,
)
"""Faults no question may be improved on: they estimate the rate on faults nobody has seen."""

VARIANTS: tuple[HealthyVariant, ...] = (*SETTINGS, *PROGRAMS, *DATA)
"""Healthy programs that have to stay green."""
