"""Every question is turned red by a planted fault, and quiet on the program it was planted in."""

from __future__ import annotations

from functools import lru_cache

import pytest

from tasks.diagnostics.engine import run_questions
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Question
from tasks.diagnostics.questions import QUESTIONS
from tasks.diagnostics.subject import Subject
from tasks.fault_benchmark.asked_alone import ASKED_ALONE
from tasks.fault_benchmark.clean import clean_subject
from tasks.fault_benchmark.plan import Catalogue
from tasks.fault_benchmark.runner import log_source, with_data_ready

FIRES: dict[str, tuple[str, str]] = {
    "inputs_match_targets": ("validation_is_test", "gru"),
    "formats_consistent": ("int_as_float", "gru"),
    "padding_handled": ("pad_rankable", "gru"),
    "distributions_reasonable": ("few_items", "gru"),
    "preprocessing_same_everywhere": ("eval_in_train_mode", "gru"),
    "ids_unique": ("hash_ordered_ids", "gru"),
    "dimensions_fit": ("head_small_V", "gru"),
    "activations_alive": ("rnn_weights_huge", "gru"),
    "embeddings_learn": ("rows_renormalised", "gru"),
    "order_and_flow": ("core_bypassed", "gru"),
    "residuals_add": ("no_resid", "mlstm"),
    "output_fits_task": ("sigmoid_out", "gru"),
    "loss_fits_task": ("bce_loss", "gru"),
    "gradients_flow": ("every_second_step", "gru"),
    "clipping_works": ("clip_tiny", "gru"),
    "learning_rate_suits": ("rate_halved", "gru"),
    "batch_and_length_suit": ("same_rows_dropped", "gru"),
    "regularisation_works": ("wd_ignored", "gru"),
    "loss_falls": ("nan_inject", "gru"),
    "validation_improves": ("average_never_updated", "gru"),
    "weights_move_and_stay_finite": ("step_no_backward", "gru"),
    "internals_shown": ("curves_missing", "gru"),
    "simple_model_learns": ("ts_misaligned", "gru"),
    "events_in_time_order": ("whole_days", "gru"),
    "targets_shifted_by_one": ("users_run_on", "gru"),
    "padding_id_reserved": ("unknown_is_padding", "gru"),
    "variable_lengths_consistent": ("left_pad_eval", "gru"),
    "sequences_long_enough": ("all_padding_rows", "gru"),
    "timestamps_aligned": ("nan_ts", "gru"),
    "states_start_clean": ("state_of_last_batch", "gru"),
    "length_preserved": ("same_rows_dropped", "gru"),
    "cells_follow_equations": ("norm_of_normaliser", "slstm"),
    "gradients_survive_time": ("gradient_in_chunks", "gru"),
    "features_used": ("gaps_unused", "mlstm"),
    "head_reads_right_state": ("eval_in_train_mode", "gru"),
    "learning_rate_suits_depth": ("lr_tiny", "gru"),
    "clipping_stops_explosions": ("clip_missing", "gru"),
    "loss_matches_output": ("bce_loss", "gru"),
    "negatives_as_declared": ("negatives_frozen", "gru"),
    "batch_stabilises_training": ("all_padding_rows", "gru"),
    "state_norms_bounded": ("grows_by_position", "gru"),
    "ranking_metrics_right": ("first_hundred_users", "gru"),
    "states_not_degenerate": ("core_zeroed", "gru"),
    "gates_not_stuck": ("emb_huge", "gru"),
}
"""By question: a fault and a model; the others, which train models, are `ASKED_ALONE`."""

AFTER_TRAINING = {q.id for q in QUESTIONS if q.mode == "after_training"}


@lru_cache(maxsize=1)
def catalogue() -> Catalogue:
    return Catalogue.load()


@lru_cache(maxsize=8)
def clean(model: str, settings: tuple[tuple[str, object], ...]) -> Subject:
    return clean_subject(log_source("synthetic"), model, 0, dict(settings))


def verdict(question: Question, subject: Subject) -> tuple[str, str]:
    mode = "exact"
    if question.id in AFTER_TRAINING:
        mode = "after_training"
        try:
            subject = subject.replace(trained=subject.train(subject, 0))
        except ArithmeticError as error:
            subject = subject.replace(failure=str(error))
    [finding] = run_questions(Probe(subject, mode), (question,)).findings
    return finding.verdict, finding.sentence


def test_every_question_has_its_fault() -> None:
    assert set(FIRES) | set(ASKED_ALONE) == {question.id for question in QUESTIONS}


@pytest.mark.parametrize("id", FIRES)
def test_a_planted_fault_turns_it_red_and_the_clean_program_does_not(id: str) -> None:
    [question] = [question for question in QUESTIONS if question.id == id]
    name, model = FIRES[id]
    _, fault = catalogue().faults[name]
    program = clean(model, tuple(sorted((fault.needs | fault.settings).items())))
    found, sentence = verdict(question, with_data_ready(fault.plant(program)))
    assert found == "faulty", sentence
    without = clean(model, tuple(sorted(fault.needs.items())))
    found, sentence = verdict(question, without)
    assert found in ("healthy", "undetermined", "not_applicable"), sentence
