"""Questions by their number in the questionnaire, so that a label stays one short line."""

from __future__ import annotations

IDS: dict[str, str] = {
    "G1": "overfits_small_subset",
    "G2": "inputs_match_targets",
    "G3": "formats_consistent",
    "G4": "padding_handled",
    "G5": "distributions_reasonable",
    "G6": "preprocessing_same_everywhere",
    "G7": "ids_unique",
    "G8": "dimensions_fit",
    "G9": "activations_alive",
    "G10": "embeddings_learn",
    "G11": "order_and_flow",
    "G12": "residuals_add",
    "G13": "output_fits_task",
    "G14": "loss_fits_task",
    "G15": "gradients_flow",
    "G16": "clipping_works",
    "G17": "learning_rate_suits",
    "G18": "batch_and_length_suit",
    "G19": "regularisation_works",
    "G20": "loss_falls",
    "G21": "validation_improves",
    "G22": "weights_move_and_stay_finite",
    "G23": "internals_shown",
    "G24": "simple_model_learns",
    "G25": "baseline_confirms_pipeline",
    "X1": "xlstm_overfits_one_user",
    "X2": "events_in_time_order",
    "X3": "targets_shifted_by_one",
    "X4": "padding_id_reserved",
    "X5": "variable_lengths_consistent",
    "X6": "sequences_long_enough",
    "X7": "timestamps_aligned",
    "X8": "states_start_clean",
    "X9": "length_preserved",
    "X10": "cells_follow_equations",
    "X11": "gradients_survive_time",
    "X12": "features_used",
    "X13": "head_reads_right_state",
    "X14": "learning_rate_suits_depth",
    "X15": "clipping_stops_explosions",
    "X16": "loss_matches_output",
    "X17": "negatives_as_declared",
    "X18": "batch_stabilises_training",
    "X19": "state_norms_bounded",
    "X20": "loss_falls_each_epoch",
    "X21": "ranking_metrics_right",
    "X22": "states_not_degenerate",
    "X23": "gates_not_stuck",
    "X24": "lstm_learns",
    "X25": "strip_down_ladder",
}
"""Number in the questionnaire -> id of the question."""


def asks(numbers: str) -> frozenset[str]:
    """Return the ids of the questions with these numbers.

    >>> sorted(asks("X2 G11"))
    ['events_in_time_order', 'order_and_flow']
    """
    return frozenset(IDS[number] for number in numbers.split())
