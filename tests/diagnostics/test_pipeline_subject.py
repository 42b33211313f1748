"""The pipeline's own program as a subject: healthy in every variant, and trainable by its parts."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest

from tasks.data.recipe import Recipe
from tasks.diagnostics.engine import run_questions
from tasks.diagnostics.pipeline_log import frame_from_log, log_from_frame
from tasks.diagnostics.pipeline_subject import pipeline_subject
from tasks.diagnostics.pipeline_training import train_subject
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.questions import QUESTIONS
from tasks.diagnostics.subject import Subject
from tasks.settings import Settings


def make_frame(num_users: int = 60, num_items: int = 40, seed: int = 0) -> pl.DataFrame:
    """First-order log in shuffled row order, with a quarantined row missing."""
    rng = np.random.default_rng(seed)
    users, items, times = [], [], []
    for user in range(num_users):
        item = int(rng.integers(num_items))
        for _ in range(int(rng.integers(4, 25))):
            item = (
                (item * 7 + 3) % num_items if rng.random() < 0.7 else int(rng.integers(num_items))
            )
            users.append(f"u{user}")
            items.append(f"i{item}")
            times.append(1_600_000_000_000_000 + len(users) * 1_000_000)
    order = rng.permutation(len(users))
    rows = np.arange(len(users) + 1)
    return pl.DataFrame(
        {
            "user_id": np.array(users)[order],
            "item_id": np.array(items)[order],
            "timestamp": np.array(times)[order],
            "row": rows[rows != 5],
        }
    )


def make_subject(model: str, section: dict | None = None, **shared: object) -> Subject:
    settings = Settings()
    small = {"embedding_dim": 16} | ({"num_heads": 2} if model in ("xlstm", "sasrec") else {})
    return pipeline_subject(
        model,
        settings.train.shared.model_dump()
        | {"max_seq_len": 12, "batch_size": 16, "max_epochs": 8}
        | shared,
        getattr(settings.train, model).model_dump() | small | (section or {}),
        Recipe(),
        log=log_from_frame(make_frame()),
    )


def broken(subject: Subject) -> list[str]:
    diagnosis = run_questions(Probe(subject), QUESTIONS)
    return [f"{f.number} {f.sentence}" for f in diagnosis.findings if f.verdict == "faulty"]


@pytest.mark.parametrize("model", ["gru", "lstm", "sasrec", "xlstm"])
def test_every_neural_model_is_healthy(model: str) -> None:
    assert broken(make_subject(model)) == []


@pytest.mark.parametrize(
    ("loss", "negatives_per", "collisions"),
    [
        ("sampled_softmax", "global", "exclude_target"),
        ("sampled_softmax", "user", "exclude_positives"),
        ("bpr", "user", "allow"),
        ("bce", "global", "allow"),
        ("gbce", "user", "exclude_target"),
    ],
)
def test_every_loss_is_healthy(loss: str, negatives_per: str, collisions: str) -> None:
    subject = make_subject(
        "gru", loss=loss, negatives_per=negatives_per, collisions=collisions, num_negatives=8
    )
    assert broken(subject) == []


@pytest.mark.parametrize(
    "section",
    [
        {"time_gaps": True},
        {"pattern": "mmm", "conv_kernel": 1},
        {"slstm_conv_gates": "ifzo", "tied": False, "dropout": 0.0, "weight_decay": 0.0},
    ],
)
def test_legitimate_settings_are_healthy(section: dict) -> None:
    assert broken(make_subject("xlstm", section)) == []


def test_a_log_survives_the_round_trip() -> None:
    frame = make_frame()
    again = frame_from_log(log_from_frame(frame)).sort("row")
    assert again.equals(frame.sort("row").select(again.columns))


def test_training_by_the_parts_lowers_the_loss() -> None:
    subject = make_subject("gru", {"learning_rate": 0.01})
    trained = train_subject(subject, seed=0, max_epochs=4)
    losses = [row["train/loss"] for row in trained.epochs]
    assert losses[-1] < losses[0] - 0.15
    assert 0.0 <= trained.metrics["test/ndcg_at_10"] <= 1.0


def test_an_undeclared_wiring_of_the_gates_is_found() -> None:
    subject = make_subject("xlstm", {"slstm_conv_gates": "ifzo"})
    declared = dataclasses.replace(subject.declared, slstm_conv_gates="if")
    diagnosis = run_questions(Probe(subject.replace(declared=declared)), QUESTIONS)
    assert (diagnosis.question, diagnosis.stage) == ("cells_follow_equations", "cell")


def test_count_models_are_no_subject() -> None:
    with pytest.raises(ValueError, match="fitted"):
        pipeline_subject("popularity", {}, {}, Recipe(), log=log_from_frame(make_frame()))
