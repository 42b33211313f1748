"""Finds the models of a workspace and makes a service of one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tasks.data.integrity import verify_trained
from tasks.data.prepared import PreparedData
from tasks.serving.catalogue import read_catalogue
from tasks.serving.history import NO_HISTORY
from tasks.serving.service import ITEMS_FILE, RECORD_FILE, Query, Service, shown_events
from tasks.serving.user_histories import UserHistories
from tasks.training.models import load_recommender

METRIC = "val/ndcg_at_10"
"""What the best model is chosen by."""


@dataclass(frozen=True)
class TrainedModel:
    """A finished training of a workspace.

    Attributes:
        name: the model.
        seed: its seed.
        folder: where it lies.
        value: validation NDCG@10.
        data_hash: data it was trained on.
        sha256: checksums of its files by name.
    """

    name: str
    seed: int
    folder: Path
    value: float
    data_hash: str
    sha256: Mapping[str, str] = field(default_factory=dict)


def trained_models(workspace: Path) -> list[TrainedModel]:
    """Every finished training of a workspace, best on validation first."""
    found = []
    for path in sorted((workspace / "artifacts" / "models").glob(f"*/seed_*/{RECORD_FILE}")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            value = float(record.get(METRIC, -math.inf))
            name, seed = str(record["model"]), int(record["seed"])
            found.append(
                TrainedModel(
                    name,
                    seed,
                    path.parent,
                    value,
                    str(record["data_hash"]),
                    record.get("sha256", {}),
                )
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} is damaged ({error!r}). Train the model again (dvc repro -f)."
            ) from None
    return sorted(found, key=lambda each: (-each.value, each.name, each.seed))


def choose_model(workspace: Path, name: str = "", seed: int | None = None) -> TrainedModel:
    """The model to answer with.

    Args:
        workspace: folder of the experiment.
        name: the model; the best on validation when empty.
        seed: its seed; the best on validation when None.

    Raises:
        ValueError: nothing is trained, or not what was asked for.
    """
    models = trained_models(workspace)
    if not models:
        raise ValueError(f"{workspace} holds no trained model. Run the experiment: assay run.")
    fitting = [m for m in models if name in ("", m.name) and seed in (None, m.seed)]
    if not fitting:
        known = ", ".join(f"{m.name} (seed {m.seed})" for m in models)
        asked = " ".join([name or "any model", *([] if seed is None else [f"with seed {seed}"])])
        raise ValueError(f"{asked} is not trained in {workspace}; expected one of {known}.")
    return fitting[0]


@dataclass(frozen=True)
class Workspace:
    """A service with the histories of the users it was prepared from.

    Attributes:
        service: the model that answers.
        users: their histories.
        chosen: which training the model comes from.
    """

    service: Service
    users: UserHistories
    chosen: TrainedModel

    @classmethod
    def open(
        cls,
        folder: Path,
        name: str = "",
        seed: int | None = None,
        item_table: Path | None = None,
    ) -> Workspace:
        """Load the model to answer with.

        Args:
            folder: folder of the experiment, with data/prepared and artifacts/models.
            name: the model; the best on validation when empty.
            seed: its seed; the best on validation when None.
            item_table: CSV with names of items.

        Raises:
            ValueError: no such model, or it was trained on other data than those prepared.
        """
        chosen = choose_model(folder, name, seed)
        data = PreparedData.load(folder / "data" / "prepared")
        if chosen.data_hash != data.manifest["data_hash"]:
            raise ValueError(
                f"{chosen.name} with seed {chosen.seed} was trained on data "
                f"{chosen.data_hash[:12]}; the prepared data are "
                f"{data.manifest['data_hash'][:12]}. Train it on these: assay run."
            )
        verify_trained(chosen.folder, chosen.sha256, "assay run")
        model = load_recommender(chosen.folder)
        service = Service(
            model,
            read_catalogue(data.folder / ITEMS_FILE, item_table),
            shown_events(chosen.folder, model),
            data.item_counts,
        )
        return cls(service, UserHistories(data), chosen)

    def query_of_user(self, user: str) -> Query:
        """The query of a user's whole history; empty, and said so, for an unknown user."""
        if user in self.users:
            return Query(self.users.of(user), user)
        return Query(NO_HISTORY, user, notes=(f"user {user!r} is not in the prepared data",))
