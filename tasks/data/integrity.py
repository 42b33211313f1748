"""The manifest of a prepared folder, and whether the files are still those it was written for.

Needs the standard library only, as `tasks.data.prepared` does with numpy.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"


class PreparedDataError(ValueError):
    """Prepared data are missing, damaged or of another format version."""


def read_manifest(folder: Path) -> dict:
    """Return the manifest of a prepared folder.

    Raises:
        PreparedDataError: It is missing, damaged, changed or of another version.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise PreparedDataError(
            f"{path} does not exist. Run the prepare stage first: python -m tasks prepare."
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version = manifest.get("format_version")
    except (ValueError, AttributeError) as error:
        raise PreparedDataError(f"{path} is damaged. Run the prepare stage again.") from error
    if version != FORMAT_VERSION:
        raise PreparedDataError(
            f"{path} has format_version {version!r}; this program reads {FORMAT_VERSION}. "
            "Run the prepare stage again."
        )
    if manifest.get("manifest_sha256") not in (None, digest_manifest(manifest)):
        raise PreparedDataError(
            f"{path} was changed or damaged (checksum). Run the prepare stage again."
        )
    return manifest


def verify_files(folder: Path, manifest: dict) -> None:
    """Compare the SHA-256 of every file with the manifest.

    Raises:
        PreparedDataError: A file is missing or its content changed; the message names it.
    """
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise PreparedDataError(f"{path} is missing. Run the prepare stage again.")
        if (found := sha256_of(path)) != expected:
            raise PreparedDataError(
                f"{path} has SHA-256 {found[:12]}...; the manifest says {expected[:12]}... "
                "The file was changed or damaged: run the prepare stage again."
            )


def verify_trained(folder: Path, expected: Mapping[str, str], again: str) -> None:
    """Compare a trained model's files with the checksums of its record.

    Args:
        folder: Where the model was saved.
        expected: SHA-256 by file name, the entry ``sha256`` of record.json.
        again: What trains the model again, for the message.

    Raises:
        PreparedDataError: A file is missing or its content changed; the message names it.
    """
    for name, sha256 in expected.items():
        path = folder / name
        if not path.is_file() or sha256_of(path) != sha256:
            raise PreparedDataError(
                f"{path} was changed or damaged (its SHA-256 is not the one in record.json). "
                f"Train the model again: {again}"
            )


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_manifest(manifest: dict) -> str:
    """SHA-256 of a manifest without its own checksum, in hexadecimal.

    >>> digest_manifest({"a": 1}) == digest_manifest({"a": 1, "manifest_sha256": "x"})
    True
    """
    body = {name: value for name, value in manifest.items() if name != "manifest_sha256"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
