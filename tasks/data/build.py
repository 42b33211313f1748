"""Prepares a log into a folder: chain, files, leakage checks, manifest."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl

from tasks.data.coded import CodedLog, encode_log
from tasks.data.encoding import Vocabulary
from tasks.data.events import Events
from tasks.data.leakage import (
    CheckResult,
    check_declared_scope,
    check_deletion,
    check_log_identity,
    check_order,
    check_rows_apart,
    enforce,
)
from tasks.data.leakage_measures import check_duplicates, check_future_training
from tasks.data.manifest import build_manifest, find_warnings, hash_files, write_manifest
from tasks.data.preparation import Preparation, prepare, rebuild_training
from tasks.data.prepared import PreparedData
from tasks.data.recipe import Recipe
from tasks.data.schema import QUARANTINE, count_reasons
from tasks.data.sequences import save_arrays
from tasks.data.storage import replaced_folder
from tasks.data.summary import describe

LOGGER = logging.getLogger(__name__)


def build_prepared(
    folder: Path,
    log: pl.DataFrame | CodedLog,
    recipe: Recipe,
    *,
    quarantine: pl.DataFrame | None = None,
    source: dict | None = None,
    on_sequences: Callable[[], None] = lambda: None,
) -> dict:
    """Prepare a valid log and write the prepared folder in one step.

    The same log and recipe give the same bytes. The leakage checks run on the files as written,
    before the folder takes its name.

    Args:
        folder: Folder to replace or create.
        log: Usable rows, as ``split_valid`` returns them, or their integers.
        recipe: How to prepare.
        quarantine: Rows that were unusable, with the columns of ``QUARANTINE``.
        source: What is known of the log's origin, JSON-ready, without absolute paths.
        on_sequences: Called when the sequences are made, before files and checks.

    Returns:
        The manifest.

    Raises:
        LeakageError: An exact check failed; ``folder`` is left as it was.
        EmptyCorpusError, SplitError: The log can't be prepared as asked.
    """
    quarantine = pl.DataFrame(schema=QUARANTINE) if quarantine is None else quarantine
    coded = encode_log(log)
    preparation = prepare(coded, recipe)
    on_sequences()
    with replaced_folder(folder) as partial:
        _write_files(partial, preparation, quarantine)
        manifest = build_manifest(
            preparation,
            recipe,
            hash_files(partial),
            num_rows=coded.num_rows + len(quarantine),
            quarantined=count_reasons(quarantine),
            source=source or {},
        )
        write_manifest(partial, manifest)
        # The files are what is checked from here on.
        preparation = replace(preparation, arrays={})
        data = PreparedData.load(partial)
        checks = run_checks(data, coded, preparation, recipe)
        enforce(checks)
        manifest["leakage"] = [check.to_dict() for check in checks]
        manifest["statistics"] = describe(data)
        manifest["warnings"] = find_warnings(
            preparation, recipe, checks, has_rating=coded.ratings is not None
        )
        write_manifest(partial, manifest)
    for warning in manifest["warnings"]:
        LOGGER.warning("%s: %s", warning["id"], warning["message"])
    return manifest


def _write_files(folder: Path, preparation: Preparation, quarantine: pl.DataFrame) -> None:
    save_arrays(folder, preparation.arrays)
    preparation.items.write_csv(folder / "items.csv", "item_id")
    preparation.users.write_csv(folder / "users.csv", "user_id")
    quarantine.write_csv(folder / "quarantine.csv")


def run_checks(
    data: PreparedData, log: pl.DataFrame | CodedLog, preparation: Preparation, recipe: Recipe
) -> list[CheckResult]:
    """Run every leakage check.

    Args:
        data: Prepared data as they lie on disk, with a manifest that lists file hashes.
        log: The log they were prepared from.
        preparation: Outcome of the chain.
        recipe: Its choices.
    """
    users, items, coded = preparation.users, preparation.items, encode_log(log)
    return [
        check_rows_apart(data, users),
        check_order(data, users),
        check_log_identity(data, _renumber(coded, users, items), users),
        check_declared_scope(data, items, recipe),
        check_deletion(data.manifest["files"], rebuild_training(coded, preparation, recipe)),
        check_future_training(data, users, recipe.split),
        check_duplicates(data, users),
    ]


def _renumber(log: CodedLog, users: Vocabulary, items: Vocabulary) -> Events:
    """The log in the ids of saved vocabularies, -1 for what they lack."""
    events = log.events()
    return Events(
        users.encode(log.user_ids)[events.users],
        items.encode(log.item_ids)[events.items],
        events.times,
        events.rows,
    )
