"""The registry alias ``champion``: moved only to a model that is significantly better.

The candidate of an experiment is its best model by validation NDCG@10. It replaces the champion
when it beats it in the project's own paired test on per-user test NDCG@10, on the same users and
targets. A champion trained on other data is ranked anew on the candidate's test split first.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.tracking import address, connection, delivery, served
from tasks.tracking.connection import RefusedRecordError
from tasks.tracking.journal import Record

if TYPE_CHECKING:
    import numpy as np

    from tasks.tracking.store import Store

ALIAS = "champion"
RANKS = "evaluation/ranks.parquet"


@dataclass(frozen=True)
class Champion:
    """The model the alias points at, and what was decided last."""

    model: str
    """Name of the model."""
    version: str
    """Version in the registry."""
    decision: str
    """Why the newest registered version is, or is not, the champion."""


def registry_name(experiment: str) -> str:
    """Name of the registered model of an experiment.

    >>> registry_name("movielens-100k")
    'assay-movielens-100k'
    """
    return f"assay-{experiment}"


def read_champion(workspace: Path, experiment: str) -> Champion | None:
    """The current champion, None where there is none or MLflow does not answer.

    Args:
        workspace: Folder of the experiment.
        experiment: Its name, ``experiment.name`` of the settings.
    """
    try:
        store = delivery.open_store(address.store_uri(workspace))
        with connection.translated(store.uri):
            name = registry_name(experiment)
            version = _champion(store, name)
            newest = max(_versions(store, name), key=lambda each: int(each.version), default=None)
    except (connection.StoreAwayError, RefusedRecordError):
        return None
    if version is None or newest is None:
        return None
    decision = newest.tags.get("assay.decision", "")
    return Champion(version.tags.get("assay.model", ""), str(version.version), decision)


def promote(store: Store, record: Record) -> None:
    """Register the candidate and move the alias if it earned it; say why in the version's tags.

    Args:
        store: The open store.
        record: ``registry`` (name of the registered model), ``model``, ``fingerprint``, ``level``
            of the test, ``workspace`` with the prepared data.
    """
    name = record["registry"]
    version = _register(store, record, name)
    champion = _champion(store, name)
    if champion is None:
        decision = "champion: the first model registered"
        store.client.set_registered_model_alias(name, ALIAS, version)
    elif champion.version == version:
        decision = champion.tags.get("assay.decision", "champion already")
    else:
        better, decision = _is_better(store, record, champion)
        if better:
            store.client.set_registered_model_alias(name, ALIAS, version)
    store.client.set_model_version_tag(name, version, "assay.decision", decision)
    store.client.set_tag(store.run_id(record["key"]), "assay.champion", decision)


def decide(candidate: np.ndarray, champion: np.ndarray, level: float) -> tuple[bool, str]:
    """Whether the candidate's ranks are significantly better, and the decision in words.

    Args:
        candidate: int64 (E,), 1-based test ranks.
        champion: int64 (E,), of the same examples in the same order.
        level: Significance level of the paired test.
    """
    from tasks.evaluation.comparison import compare

    table = compare(
        {"candidate": candidate[None], "champion": champion[None]},
        cutoffs=(10,),
        significance=level,
    )
    pair = next(pair for pair in table.pairs if pair.metric == "ndcg_at_10")
    better = pair.better == "candidate" and pair.is_significant
    sign = 1 if pair.better == "candidate" else -1
    numbers = f"test NDCG@10 {sign * pair.difference:+.4f}, p = {pair.p_holm:.2g}"
    if better:
        return True, f"champion: significantly better than the last one ({numbers})"
    return False, f"not champion: not significantly better ({numbers})"


def _register(store: Store, record: Record, name: str) -> str:
    """Version of the candidate's model, registered now unless it was before."""
    client = store.client
    for version in _versions(store, name):
        if version.tags.get("assay.fingerprint") == record["fingerprint"]:
            return str(version.version)
    run_id = store.run_id(record["key"])
    model = served.model_id(store, run_id)
    if not model:
        raise RefusedRecordError(f"run {run_id} has no model to register")
    if _versions(store, name) == [] and not _is_registered(store, name):
        client.create_registered_model(name)
    created = client.create_model_version(
        name,
        # Not `models:/<id>`, which MLflow would look up in another store than this client's.
        client.get_logged_model(model).artifact_location,
        run_id,
        tags={"assay.fingerprint": record["fingerprint"], "assay.model": record["model"]},
        model_id=model,
    )
    return str(created.version)


def _versions(store: Store, name: str) -> list[Any]:
    return list(store.client.search_model_versions(f"name = '{name}'"))


def _is_registered(store: Store, name: str) -> bool:
    return bool(store.client.search_registered_models(f"name = '{name}'"))


def _champion(store: Store, name: str) -> Any | None:
    """The version the alias points at, None before there is one."""
    registered = store.client.search_registered_models(f"name = '{name}'")
    aliases = registered[0].aliases if registered else {}
    if ALIAS not in aliases:
        return None
    return store.client.get_model_version(name, aliases[ALIAS])


def _is_better(store: Store, record: Record, champion: Any) -> tuple[bool, str]:
    run_id = store.run_id(record["key"])
    users, candidate = _test_ranks(store, run_id)
    if _data_hash(store, run_id) == _data_hash(store, champion.run_id):
        other_users, ranks = _test_ranks(store, champion.run_id)
        if list(users) != list(other_users):
            return False, "not champion: the champion was evaluated on other users"
        return decide(candidate, ranks, record["level"])
    from tasks.tracking import rescore

    with tempfile.TemporaryDirectory() as folder:
        model = served.download_model(store, champion.run_id, Path(folder))
        prepared = Path(record["workspace"]) / "data" / "prepared"
        found = rescore.test_ranks(model, prepared, _data_hash(store, run_id))
    if found is None:
        return False, "not champion: the data it was evaluated on are no longer in the workspace"
    return decide(candidate, found, record["level"])


def _data_hash(store: Store, run_id: str) -> str:
    return str(store.client.get_run(run_id).data.tags.get("assay.data_hash", ""))


def _test_ranks(store: Store, run_id: str) -> tuple[np.ndarray, np.ndarray]:
    """Users and ranks (E,) of a run on the test split, in order of users."""
    import polars as pl

    with tempfile.TemporaryDirectory() as folder:
        table = pl.read_parquet(store.client.download_artifacts(run_id, RANKS, folder))
    table = table.filter(pl.col("split") == "test").sort("user")
    return table["user"].to_numpy(), table["rank"].to_numpy()
