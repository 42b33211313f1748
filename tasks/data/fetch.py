"""Get the log of a named source: from the cache, the web or the package index, verified."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tasks.data.readers.errors import DataError
from tasks.data.sources import ArchiveOrigin, Origin, Source, WheelOrigin

CONNECT_SECONDS = 5.0
"""Longest wait for an answer where another origin can be tried."""

LAST_ORIGIN_SECONDS = 30.0
PIP_SECONDS = 300.0
MAX_DOWNLOAD_BYTES = 2**30
MAX_MEMBER_BYTES = 4 * 2**30
BLOCK = 2**20


class SourceUnreachableError(ConnectionError):
    """No origin of a source could be reached."""


class ChecksumError(DataError):
    """A file has not the content it must have."""


@dataclass(frozen=True)
class FetchedLog:
    """A verified log on this machine.

    Attributes:
        path: The file.
        sha256: Its SHA-256.
        size: Bytes.
        origin: Where it came from, in words.
        is_cached: True if nothing had to be downloaded.
    """

    path: Path
    sha256: str
    size: int
    origin: str
    is_cached: bool


def cache_folder() -> Path:
    """Folder that keeps verified downloads: ``$ASSAY_CACHE``, else ``~/.cache/assay``."""
    stated = os.environ.get("ASSAY_CACHE", "")
    return Path(stated) if stated else Path.home() / ".cache" / "assay"


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def written_atomically(path: Path) -> Iterator[IO[bytes]]:
    """Give a file to write that appears as ``path``, complete and on the disk, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def fetch_log(source: Source, cache: Path) -> FetchedLog:
    """Return the log of a source with fixed content, downloading it where the cache has none.

    Args:
        source: A source with origins.
        cache: Folder of verified downloads; a damaged file in it is replaced.

    Raises:
        SourceUnreachableError: No origin answered; the message names each with its reason and
            offers the synthetic source.
        ChecksumError: An origin gave other content than it must, and no other one helped.
    """
    folder = cache / source.name
    cached = _find_cached(source, folder)
    if cached is not None:
        return cached
    failures: list[str] = []
    wrong: ChecksumError | None = None
    for position, origin in enumerate(source.origins):
        is_last = position == len(source.origins) - 1
        try:
            return _fetch_from(origin, source, folder, is_last=is_last)
        except ChecksumError as error:
            wrong = error
            failures.append(str(error))
        except (OSError, subprocess.SubprocessError) as error:
            failures.append(f"{origin.place}: {_explain(error)}")
    tried = "\n".join(f"  - {failure}" for failure in failures)
    message = (
        f"{source.title.split(':')[0]} could not be fetched:\n{tried}\n"
        "Check the network (proxy settings and pip's configuration are respected) and run again, "
        "give a copy you have with `assay run --data FILE`, or work offline on the embedded log: "
        "`assay run --set data.source=synthetic`."
    )
    if wrong is not None:
        raise ChecksumError(message) from wrong
    raise SourceUnreachableError(message)


def _explain(error: Exception) -> str:
    if isinstance(error, urllib.error.URLError):
        return f"no connection ({error.reason})"
    return str(error) or type(error).__name__


def _find_cached(source: Source, folder: Path) -> FetchedLog | None:
    """Return the cached log if it is there and still what was verified when it was stored."""
    path, record = folder / source.file_name, folder / "origin.json"
    try:
        facts = json.loads(record.read_text(encoding="utf-8"))
        sha256 = source.sha256 or str(facts["sha256"])
        if hash_file(path) != sha256:
            return None
        return FetchedLog(path, sha256, path.stat().st_size, str(facts["origin"]), True)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _fetch_from(origin: Origin, source: Source, folder: Path, *, is_last: bool) -> FetchedLog:
    """Download one origin, take the log out of it, verify and store it."""
    path = folder / source.file_name
    with tempfile.TemporaryDirectory(prefix="assay-") as scratch:
        if isinstance(origin, ArchiveOrigin):
            archive = Path(scratch) / "archive.zip"
            seconds = LAST_ORIGIN_SECONDS if is_last else CONNECT_SECONDS
            download(origin.url, archive, seconds=seconds)
            _verify(archive, origin.sha256, origin.place)
            header_lines = 0
        else:
            archive = download_wheel(origin.requirement, Path(scratch))
            header_lines = origin.header_lines
        member = Path(scratch) / "member"
        extract_member(archive, origin.member, member)
        if isinstance(origin, WheelOrigin):
            _verify(member, origin.sha256, origin.place)
        with member.open("rb") as content, written_atomically(path) as target:
            for _ in range(header_lines):
                content.readline()
            shutil.copyfileobj(content, target, BLOCK)
    sha256 = hash_file(path)
    if source.sha256 and sha256 != source.sha256:
        path.unlink()
        raise ChecksumError(f"{origin.place}: SHA-256 {sha256}, expected {source.sha256}.")
    with written_atomically(folder / "origin.json") as record:
        record.write(json.dumps({"sha256": sha256, "origin": origin.place}, indent=1).encode())
    return FetchedLog(path, sha256, path.stat().st_size, origin.place, False)


def _verify(path: Path, sha256: str, place: str) -> None:
    found = hash_file(path)
    if found != sha256:
        raise ChecksumError(
            f"{place}: SHA-256 {found}, expected {sha256}. The file was changed or cut off."
        )


def download(url: str, target: Path, *, seconds: float) -> None:
    """Download an https address to a file.

    Args:
        url: Address; only https is opened.
        target: File to write.
        seconds: Longest wait for the connection and for each piece of data.

    Raises:
        ValueError: ``url`` is not https.
        OSError: The server can't be reached, refuses, or sends more than 1 GiB.
    """
    if not url.startswith("https://"):
        raise ValueError(f"url is {url!r}; expected an https address.")
    request = urllib.request.Request(url, headers={"User-Agent": "assay"})  # noqa: S310 (https)
    with (
        urllib.request.urlopen(request, timeout=seconds) as response,  # noqa: S310 # nosec B310
        target.open("wb") as file,
    ):
        while block := response.read(BLOCK):
            file.write(block)
            if file.tell() > MAX_DOWNLOAD_BYTES:
                raise OSError(f"{url} sends more than {MAX_DOWNLOAD_BYTES:,} bytes")


def download_wheel(requirement: str, folder: Path) -> Path:
    """Have pip download one wheel, without its dependencies and without installing it.

    pip's own configuration (index, proxy, certificates) applies.

    Raises:
        OSError: pip is missing, or found no such wheel.
        subprocess.TimeoutExpired: It took longer than five minutes.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
    command += ["--only-binary=:all:", "--disable-pip-version-check", "--retries", "1"]
    command += ["--timeout", "30", "--dest", str(folder), requirement]
    done = subprocess.run(  # noqa: S603 (fixed arguments, no shell)
        command, capture_output=True, text=True, timeout=PIP_SECONDS, check=False
    )
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines
        raise OSError(f"pip download failed ({errors[-1][:300] if errors else 'no message'})")
    return wheels[0]


def extract_member(archive: Path, member: str, target: Path) -> None:
    """Write one member of a zip archive to ``target``, and nothing else anywhere.

    Raises:
        ChecksumError: The archive is damaged, has no such member, or the member is too large.
    """
    try:
        with (
            zipfile.ZipFile(archive) as opened,
            opened.open(member) as content,
            target.open("wb") as file,
        ):
            while block := content.read(BLOCK):
                file.write(block)
                if file.tell() > MAX_MEMBER_BYTES:
                    raise ChecksumError(f"{member} unpacks to more than {MAX_MEMBER_BYTES:,}.")
    except (zipfile.BadZipFile, KeyError) as error:
        raise ChecksumError(f"{member} can't be unpacked ({error}).") from error
