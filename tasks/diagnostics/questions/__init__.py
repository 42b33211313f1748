"""The fifty questions, one file each, listed in the order of the questionnaire."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from tasks.diagnostics.question import Question
from tasks.diagnostics.questions import (
    activations_alive,
    baseline_confirms_pipeline,
    batch_and_length_suit,
    batch_stabilises_training,
    cells_follow_equations,
    clipping_stops_explosions,
    clipping_works,
    dimensions_fit,
    distributions_reasonable,
    embeddings_learn,
    events_in_time_order,
    features_used,
    formats_consistent,
    gates_not_stuck,
    gradients_flow,
    gradients_survive_time,
    head_reads_right_state,
    ids_unique,
    inputs_match_targets,
    internals_shown,
    learning_rate_suits,
    learning_rate_suits_depth,
    length_preserved,
    loss_falls,
    loss_falls_each_epoch,
    loss_fits_task,
    loss_matches_output,
    lstm_learns,
    negatives_as_declared,
    order_and_flow,
    output_fits_task,
    overfits_small_subset,
    padding_handled,
    padding_id_reserved,
    preprocessing_same_everywhere,
    ranking_metrics_right,
    regularisation_works,
    residuals_add,
    sequences_long_enough,
    simple_model_learns,
    state_norms_bounded,
    states_not_degenerate,
    states_start_clean,
    strip_down_ladder,
    targets_shifted_by_one,
    timestamps_aligned,
    validation_improves,
    variable_lengths_consistent,
    weights_move_and_stay_finite,
    xlstm_overfits_one_user,
)

QUESTIONS: tuple[Question, ...] = (
    overfits_small_subset.QUESTION,
    inputs_match_targets.QUESTION,
    formats_consistent.QUESTION,
    padding_handled.QUESTION,
    distributions_reasonable.QUESTION,
    preprocessing_same_everywhere.QUESTION,
    ids_unique.QUESTION,
    dimensions_fit.QUESTION,
    activations_alive.QUESTION,
    embeddings_learn.QUESTION,
    order_and_flow.QUESTION,
    residuals_add.QUESTION,
    output_fits_task.QUESTION,
    loss_fits_task.QUESTION,
    gradients_flow.QUESTION,
    clipping_works.QUESTION,
    learning_rate_suits.QUESTION,
    batch_and_length_suit.QUESTION,
    regularisation_works.QUESTION,
    loss_falls.QUESTION,
    validation_improves.QUESTION,
    weights_move_and_stay_finite.QUESTION,
    internals_shown.QUESTION,
    simple_model_learns.QUESTION,
    baseline_confirms_pipeline.QUESTION,
    xlstm_overfits_one_user.QUESTION,
    events_in_time_order.QUESTION,
    targets_shifted_by_one.QUESTION,
    padding_id_reserved.QUESTION,
    variable_lengths_consistent.QUESTION,
    sequences_long_enough.QUESTION,
    timestamps_aligned.QUESTION,
    states_start_clean.QUESTION,
    length_preserved.QUESTION,
    cells_follow_equations.QUESTION,
    gradients_survive_time.QUESTION,
    features_used.QUESTION,
    head_reads_right_state.QUESTION,
    learning_rate_suits_depth.QUESTION,
    clipping_stops_explosions.QUESTION,
    loss_matches_output.QUESTION,
    negatives_as_declared.QUESTION,
    batch_stabilises_training.QUESTION,
    state_norms_bounded.QUESTION,
    loss_falls_each_epoch.QUESTION,
    ranking_metrics_right.QUESTION,
    states_not_degenerate.QUESTION,
    gates_not_stuck.QUESTION,
    lstm_learns.QUESTION,
    strip_down_ladder.QUESTION,
)


def select_questions(names: Sequence[str]) -> tuple[Question, ...]:
    """Return the questions with these ids or numbers, in questionnaire order; all for none.

    >>> [question.id for question in select_questions(["x3", "G14"])]
    ['loss_fits_task', 'targets_shifted_by_one']

    Raises:
        ValueError: There is no such question.
    """
    known = {name: q for q in QUESTIONS for name in (q.id, q.number.lower())}
    wanted = [name.lower() for name in names]
    for name in wanted:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {close[0]}?" if close else "Numbers are G1 to G25, X1 to X25."
            raise ValueError(f"there is no question {name!r}; expected an id or a number. {hint}")
    chosen = {known[name].id for name in wanted}
    return tuple(q for q in QUESTIONS if not wanted or q.id in chosen)
