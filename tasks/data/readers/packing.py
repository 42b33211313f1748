"""Open a log: plain, gzip or zip, with limits that stop archive bombs."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from tasks.data.readers.errors import DataError, shorten

MAX_UNPACKED_BYTES = 4 * 2**30
"""Largest size a packed log may have unpacked; it is held in memory. Plain files have no limit."""

MAX_RATIO = 250
"""Largest unpacked / packed size, checked beyond 64 MiB. Real logs pack 3 to 20 times."""

RATIO_FLOOR = 64 * 2**20
HEAD_BYTES = 2**18
CHUNK_BYTES = 2**22
LOG_SUFFIXES = (".csv", ".tsv", ".txt", ".dat", ".data", ".inter", ".jsonl", ".ndjson", ".parquet")
USUAL_NAMES = ("ratings", "u.data", "interactions", "events")

FOREIGN_FORMATS = (
    (b"BZh", "a bzip2 file", "unpack it with bunzip2"),
    (b"\xfd7zXZ", "an xz file", "unpack it with unxz"),
    (b"\x28\xb5\x2f\xfd", "a zstandard file", "unpack it with unzstd"),
    (b"7z\xbc\xaf", "a 7-zip archive", "unpack it"),
    (b"Rar!", "a rar archive", "unpack it"),
    (b"\x89HDF", "an HDF5 file", "export it as CSV or Parquet"),
    (b"SQLite format 3", "an SQLite database", "export the table as CSV"),
    (b"\x93NUMPY", "a NumPy array", "export it as CSV or Parquet"),
    (b"ARROW1", "an Arrow/Feather file", "export it as Parquet"),
    (b"RDX", "an R data file", "export it as CSV"),
    (b"%PDF", "a PDF document", "give the log itself"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "save it as CSV"),
    (b"version https://git-lfs", "a Git LFS pointer", "run `git lfs pull`"),
    *((b"\x80" + bytes([v]) + b"\x95", "a Python pickle", "export it as CSV") for v in (4, 5)),
    *((b"\x80" + bytes([v]) + b"c", "a Python pickle", "export it as CSV") for v in (2, 3)),
)


@dataclass(frozen=True)
class RawLog:
    """The bytes of a log.

    Attributes:
        path: The file given.
        member: Archive member read, "" without an archive.
        compression: How the file is packed.
        data: Unpacked content, or None where the file is plain and is read in place.
        notes: Things to state, for example which archive member was chosen.
    """

    path: Path
    member: str
    compression: Literal["none", "gzip", "zip"]
    data: bytes | None
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Name used in messages and kept in manifests: without the folder."""
        return f"{self.path.name}::{self.member}" if self.member else self.path.name

    @property
    def inner_name(self) -> str:
        """File name without the packing, lower case."""
        name = (PurePosixPath(self.member).name if self.member else self.path.name).lower()
        return name.removesuffix(".gz")

    def head(self) -> bytes:
        """Return the first 256 KiB."""
        if self.data is not None:
            return self.data[:HEAD_BYTES]
        with self.path.open("rb") as file:
            return file.read(HEAD_BYTES)

    def read_bytes(self) -> bytes:
        """Return the whole content."""
        return self.path.read_bytes() if self.data is None else self.data


def split_member(path: str | Path) -> tuple[Path, str]:
    """Separate ``archive.zip::member`` into its parts.

    >>> split_member("logs.zip::a/b.csv")[1]
    'a/b.csv'
    """
    text = str(path)
    archive, mark, member = text.partition(".zip::")
    return (Path(archive + ".zip"), member) if mark else (Path(path), "")


def open_log(path: str | Path, *, max_bytes: int = MAX_UNPACKED_BYTES) -> RawLog:
    """Open a log by its content, whatever its name.

    Args:
        path: A file, or ``archive.zip::member`` to choose a member.
        max_bytes: Largest unpacked size accepted of a packed file.

    Raises:
        DataError: The file is missing, empty, damaged, of a foreign format, unsafe or too large.
    """
    file, member = split_member(path)
    _check_file(file, str(path))
    try:
        with file.open("rb") as stream:
            magic = stream.read(HEAD_BYTES)
        if magic.startswith(b"\x1f\x8b"):
            log = RawLog(file, "", "gzip", _read_gzip(file, max_bytes))
        elif magic.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            log = _read_zip(file, member, max_bytes)
        else:
            log = RawLog(file, "", "none", None)
    except OSError as error:
        raise DataError(f"{file} can't be read: {error.strerror or error}.") from error
    if member and log.compression != "zip":
        raise DataError(f"{file} is no zip archive, so it has no member {member!r}.")
    _check_content(log)
    return log


def _check_file(file: Path, given: str) -> None:
    if given.startswith(("http://", "https://", "s3://", "ftp://")):
        raise DataError(f"data.path is {shorten(given)}, a URL. Download it and give the file.")
    if "\0" in given or len(given) > 4096:
        raise DataError(f"{shorten(given)} is no file name. Set data.path to the log.")
    if file.is_dir():
        inside = sorted(child.name for child in file.iterdir() if child.is_file())[:5]
        raise DataError(
            f"{file} is a folder (with {', '.join(inside) or 'no files'}). Give a file."
        )
    if not file.is_file():
        kind = "is not a regular file" if file.exists() else "does not exist"
        raise DataError(f"{file} {kind}. Set data.path to the log.")
    if file.stat().st_size == 0:
        raise DataError(f"{file} is empty (0 bytes). Write or download the log again.")


def _check_content(log: RawLog) -> None:
    head = log.head()
    if not head:
        raise DataError(f"{log.label} is empty once unpacked. Write or download the log again.")
    for magic, kind, advice in FOREIGN_FORMATS:
        if head.startswith(magic):
            raise DataError(f"{log.label} is {kind}, which is not read: {advice}.")
    if head[257:262] == b"ustar":
        raise DataError(f"{log.label} holds a tar archive. Unpack it and give the log itself.")
    if log.compression != "none" and head.startswith((b"\x1f\x8b", b"PK\x03\x04")):
        raise DataError(f"{log.label} is packed twice. Unpack it once and give the result.")
    if head[:256].lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise DataError(
            f"{log.label} is a web page or XML ({shorten(head[:40].decode('latin-1'))}). "
            "Was a download page saved instead of the log?"
        )


def _read_limited(stream: IO[bytes], packed: int, max_bytes: int, label: str) -> bytes:
    """Read a whole packed stream, refusing to grow beyond the limits."""
    buffer = io.BytesIO()
    while chunk := stream.read(CHUNK_BYTES):
        buffer.write(chunk)
        size = buffer.tell()
        if size > max_bytes:
            raise DataError(
                f"{label} unpacks to more than {max_bytes:,} bytes. "
                "If that is right, unpack it yourself and give the plain file, which has no limit."
            )
        if size > RATIO_FLOOR and size > MAX_RATIO * packed:
            raise DataError(
                f"{label} unpacks to more than {MAX_RATIO} times its {packed:,} bytes: it looks "
                "like an archive bomb. If it is a log, unpack it yourself and give the plain file."
            )
    return buffer.getvalue()


def _read_gzip(file: Path, max_bytes: int) -> bytes:
    try:
        with gzip.open(file, "rb") as stream:
            return _read_limited(stream, file.stat().st_size, max_bytes, str(file))
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{file} is a damaged gzip file ({error}): it was cut off or changed. "
            "Download or pack it again."
        ) from error


def _read_zip(file: Path, member: str, max_bytes: int) -> RawLog:
    try:
        with zipfile.ZipFile(file) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            for info in infos:
                _check_member(file, info)
            info, notes = _choose_member(file, infos, member)
            label = f"{file}::{info.filename}"
            if info.file_size > max_bytes:
                raise DataError(
                    f"{label} says it unpacks to {info.file_size:,} bytes; at most {max_bytes:,} "
                    "are unpacked. Unpack it yourself and give the plain file."
                )
            with archive.open(info) as stream:
                data = _read_limited(stream, max(info.compress_size, 1), max_bytes, label)
    except DataError:
        raise
    except (zipfile.BadZipFile, EOFError, zlib.error, OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{file} is a damaged or unsupported zip archive ({error}). "
            "Download or pack it again (deflate, no password)."
        ) from error
    return RawLog(file, info.filename, "zip", data, notes)


def _check_member(file: Path, info: zipfile.ZipInfo) -> None:
    name = info.filename.replace("\\", "/")
    if name.startswith("/") or ".." in name.split("/") or (len(name) > 1 and name[1] == ":"):
        raise DataError(
            f"{file} has the member {shorten(info.filename)}, which points outside the archive. "
            "Such archives are refused: unpack it where you trust it and give the log itself."
        )
    if info.flag_bits & 0x1:
        raise DataError(f"{file} has a password ({info.filename}). Unpack it and give the log.")


def _choose_member(
    file: Path, infos: list[zipfile.ZipInfo], member: str
) -> tuple[zipfile.ZipInfo, tuple[str, ...]]:
    """Return the member to read and what to state about the choice."""
    names = ", ".join(info.filename for info in infos[:12]) or "nothing"
    if any(info.filename == "[Content_Types].xml" for info in infos):
        raise DataError(f"{file} is an office document (Excel?). Save the sheet as CSV.")
    if member:
        named = [info for info in infos if info.filename == member]
        if len(named) > 1:
            raise DataError(
                f"{file} has {len(named)} members named {member!r}. Unpack it and give the log "
                "itself."
            )
        if named:
            return named[0], ()
        raise DataError(f"{file} has no member {member!r}; it holds {names}.")
    logs = [
        info
        for info in infos
        if PurePosixPath(info.filename).suffix.lower() in LOG_SUFFIXES
        and not PurePosixPath(info.filename).name.lower().startswith((".", "_", "readme", "licen"))
        and "__MACOSX" not in info.filename
    ]
    for usual in USUAL_NAMES:
        hits = [i for i in logs if PurePosixPath(i.filename).name.lower().startswith(usual)]
        if len(hits) == 1:
            logs = hits
            break
    if len(logs) != 1:
        what = "no log" if not logs else f"{len(logs)} files that could be the log"
        raise DataError(
            f"{file} holds {what} ({names}). Name the member: data.path={file}::MEMBER."
        )
    others = len(infos) - 1
    note = f"{logs[0].filename} was read from {file.name}, {others} other files in it were not."
    return logs[0], (note,) if others else ()
