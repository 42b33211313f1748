"""The alias `champion` moves only to a model that is significantly better."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tasks import tracking
from tasks.data.build import build_prepared
from tasks.data.recipe import Recipe
from tasks.settings import Settings
from tasks.tracking import champion, rescore
from tests.tracking.conftest import save_model, toy_settings, train, write_evaluation

NAME = "assay-toy"
GOOD = [1] * 40
BAD = [9] * 40


def experiment(settings: Settings, workspace: Path, ranks: dict[str, list[int]], mark: int) -> None:
    """Train and evaluate; ``mark`` tells the trainings of several experiments apart."""
    for model in ranks:
        train(settings, workspace, model, favourite=mark)
    write_evaluation(workspace, ranks)
    tracking.log_evaluation(settings, workspace)
    tracking.log_report(settings, workspace)


def test_the_best_model_by_validation_becomes_the_first_champion(
    settings: Settings, workspace: Path, client: Any
) -> None:
    experiment(settings, workspace, {"popularity": BAD, "gru": GOOD}, mark=1)

    version = client.get_model_version_by_alias(NAME, "champion")
    assert version.tags["assay.model"] == "gru"
    found = tracking.read_champion(workspace, "toy")
    assert found == tracking.Champion("gru", "1", "champion: the first model registered")


def test_a_significantly_better_model_replaces_it(
    settings: Settings, workspace: Path, client: Any
) -> None:
    experiment(settings, workspace, {"gru": BAD}, mark=1)
    experiment(settings, workspace, {"gru": GOOD}, mark=2)

    version = client.get_model_version_by_alias(NAME, "champion")
    assert version.version == 2
    assert "significantly better than the last one" in version.tags["assay.decision"]


@pytest.mark.parametrize("ranks", [BAD, [2, *GOOD[1:]], [*GOOD[:-1], 2]])
def test_a_worse_or_equal_model_does_not(
    ranks: list[int], settings: Settings, workspace: Path, client: Any
) -> None:
    experiment(settings, workspace, {"gru": [2, *GOOD[1:]]}, mark=1)
    experiment(settings, workspace, {"gru": ranks}, mark=2)

    assert client.get_model_version_by_alias(NAME, "champion").version == 1
    decision = client.get_model_version(NAME, "2").tags["assay.decision"]
    assert decision.startswith("not champion: not significantly better (test NDCG@10")


def test_evaluating_again_registers_nothing_twice(
    settings: Settings, workspace: Path, client: Any
) -> None:
    experiment(settings, workspace, {"gru": GOOD}, mark=1)
    tracking.log_evaluation(settings, workspace)
    tracking.log_report(settings, workspace)

    assert len(client.search_model_versions(f"name = '{NAME}'")) == 1


def test_registering_can_be_switched_off(workspace: Path, client: Any) -> None:
    settings = toy_settings(tracking={"register_champion": False})
    experiment(settings, workspace, {"gru": GOOD}, mark=1)

    assert client.search_registered_models() == []
    assert tracking.read_champion(workspace, "toy") is None


def test_a_decision_names_numbers() -> None:
    better, words = champion.decide(np.full(50, 1), np.full(50, 3), 0.05)
    assert better
    assert "+0.5000" in words

    better, words = champion.decide(np.full(50, 3), np.full(50, 1), 0.05)
    assert not better
    assert "-0.5000" in words


def prepare(workspace: Path, events: Iterable[tuple[str, str, int]]) -> None:
    """Prepare a log for real."""
    events = list(events)
    log = pl.DataFrame(
        {
            "user_id": pl.Series([user for user, _, _ in events], dtype=pl.String),
            "item_id": pl.Series([item for _, item, _ in events], dtype=pl.String),
            "timestamp": pl.Series([time * 1_000_000 for *_, time in events], dtype=pl.Int64),
            "row": pl.Series(range(len(events)), dtype=pl.Int64),
        }
    )
    shutil.rmtree(workspace / "data" / "prepared", ignore_errors=True)
    build_prepared(workspace / "data" / "prepared", log, Recipe())


def histories(num_users: int, items: str) -> list[tuple[str, str, int]]:
    return [
        (f"u{user}", items[(user + step) % len(items)], step)
        for user in range(num_users)
        for step in range(len(items))
    ]


def test_on_new_data_the_champion_is_ranked_anew(
    settings: Settings, workspace: Path, client: Any
) -> None:
    prepare(workspace, histories(12, "abcd"))
    experiment(settings, workspace, {"gru": [1] * 12}, mark=1)

    # More users and an item the champion has never seen; on these it is far from perfect.
    prepare(workspace, histories(40, "eabcd"))
    experiment(settings, workspace, {"gru": [1] * 40}, mark=2)

    decision = client.get_model_version(NAME, "2").tags["assay.decision"]
    assert decision.startswith("champion: significantly better than the last one")


def test_data_that_are_gone_move_nothing(settings: Settings, workspace: Path, client: Any) -> None:
    experiment(settings, workspace, {"gru": BAD}, mark=1)
    manifest = workspace / "data" / "prepared" / "manifest.json"
    manifest.write_text(json.dumps({"data_hash": "e" * 64}))
    experiment(settings, workspace, {"gru": GOOD}, mark=2)

    assert client.get_model_version_by_alias(NAME, "champion").version == 1
    decision = client.get_model_version(NAME, "2").tags["assay.decision"]
    assert "no longer in the workspace" in decision


def test_unknown_items_leave_a_history_and_are_never_recommended(workspace: Path) -> None:
    import torch

    from tasks.training.models import load_recommender

    model = load_recommender(save_model(workspace, "popularity", favourite=2))
    # New ids: 1 is unknown to the model, 2 is its item 3, 3 its item 2.
    seen: list[tuple[list[list[int]], list[int]]] = []

    class Spy:
        num_items = 4

        def score(self, item_ids, lengths, times=None):
            seen.append((item_ids.tolist(), lengths.tolist()))
            return model.score(item_ids, lengths, times)

    translated = rescore.Translated(Spy(), np.array([0, 0, 3, 2]))
    scores = translated.score(torch.tensor([[1, 2, 1, 3], [1, 1, 0, 0]]), torch.tensor([4, 2]))

    assert seen == [([[3, 2, 0, 0], [0, 0, 0, 0]], [2, 0])]
    assert scores[:, :2].isneginf().all()
    assert (scores[:, 3] > scores[:, 2]).all()
