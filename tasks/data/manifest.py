"""The manifest of a prepared folder: counts, choices, hashes, warnings. No clock, no paths."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from tasks.data.integrity import FORMAT_VERSION, MANIFEST_NAME, digest_manifest, sha256_of
from tasks.data.leakage import CheckResult
from tasks.data.ordering import find_order_warnings
from tasks.data.preparation import Preparation
from tasks.data.recipe import Recipe

NOT_DATA = ("quarantine.csv",)
"""Files that do not change what a model is trained or tested on."""

MAX_QUIET_TIE_SHARE = 0.01
"""Share of users whose test item ties decide above which a warning is given: a hundredth of the
users moves a hit rate by less than the noise between seeds."""


def hash_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file but the manifest, by name in alphabetical order."""
    names = sorted(path.name for path in folder.iterdir() if path.name != MANIFEST_NAME)
    return {name: sha256_of(folder / name) for name in names}


def hash_data(files: dict[str, str]) -> str:
    """Return one SHA-256 over the names and hashes of all files a model depends on."""
    listed = {name: digest for name, digest in sorted(files.items()) if name not in NOT_DATA}
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def build_manifest(
    preparation: Preparation,
    recipe: Recipe,
    files: dict[str, str],
    *,
    num_rows: int,
    quarantined: dict[str, int],
    source: dict,
) -> dict:
    """Assemble what is known before the leakage checks.

    Args:
        preparation: Outcome of the chain.
        recipe: Its choices.
        files: SHA-256 by file name.
        num_rows: Rows of the raw log.
        quarantined: Unusable rows by reason.
        source: What the reader stated about the log; no absolute paths.
    """
    roles, arrays = preparation.roles, preparation.arrays
    return {
        "format_version": FORMAT_VERSION,
        "data_hash": hash_data(files),
        "source": source,
        "settings": _list_choices(preparation, recipe),
        "counts": {
            "rows": num_rows,
            "users": len(preparation.users),
            "items": len(preparation.items),
            "train_events": roles["train"],
            "train_users": int((arrays["train.offsets"][1:] > arrays["train.offsets"][:-1]).sum()),
            "val_examples": roles["val_target"],
            "test_examples": roles["test_target"],
        },
        "events": {
            "quarantined": sum(quarantined.values()),
            **{f"filtered_{reason}": count for reason, count in preparation.dropped.items()},
            **roles,
        },
        "quarantine_reasons": quarantined,
        "ties": asdict(preparation.ties),
        "files": files,
    }


def _list_choices(preparation: Preparation, recipe: Recipe) -> dict:
    """Return the recipe with the boundaries found, without what its split does not use."""
    choices = {**asdict(recipe), "tie_order": "original_row", "starts": list(preparation.starts)}
    if recipe.split == "leave_one_out":
        for unused in ("boundaries", "quantiles", "starts", "temporal_target"):
            del choices[unused]
    return choices


def find_warnings(
    preparation: Preparation, recipe: Recipe, checks: list[CheckResult], has_rating: bool
) -> list[dict]:
    """List everything a user should know before trusting the numbers.

    Args:
        preparation: Outcome of the chain.
        recipe: Its choices.
        checks: Results of the leakage checks.
        has_rating: Whether the log has ratings.
    """
    found = find_order_warnings(preparation.ties)
    share = preparation.ties.last_two_tied_share
    if recipe.split == "leave_one_out" and share > MAX_QUIET_TIE_SHARE:
        message = (
            f"the last two events of {share:.1%} of the users have equal times: which one is the "
            "test item rests on the order of the rows in the log (data.tie_order: original_row). "
            "Results on the same log with its rows in another order are not comparable."
        )
        found.append({"id": "ties_decide_targets", "message": message, "numbers": {"share": share}})
    if recipe.rating_threshold > 0 and not has_rating:
        message = (
            f"rating_threshold is {recipe.rating_threshold:g}, but the log has no rating column: "
            "the setting has no effect. Set data.rating_column, or the threshold to 0."
        )
        found.append({"id": "rating_threshold_unused", "message": message, "numbers": {}})
    found.extend(
        {"id": check.id, "message": check.message, "numbers": check.numbers}
        for check in checks
        if not check.exact and not check.passed
    )
    if recipe.cold_users == "drop" and preparation.roles["cold_user"]:
        count = preparation.roles["cold_user"]
        message = (
            f"{count} held-out events belong to users without a training event and are left out "
            "(data.cold_users: drop)."
        )
        found.append({"id": "cold_users", "message": message, "numbers": {"events": count}})
    return found


def write_manifest(folder: Path, manifest: dict) -> None:
    """Write the manifest, with a checksum of its own, as indented JSON with sorted keys."""
    manifest["manifest_sha256"] = digest_manifest(manifest)
    text = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    (folder / MANIFEST_NAME).write_text(text + "\n", encoding="utf-8")
