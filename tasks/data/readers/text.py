"""Text encodings and line ends of a log."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path

from tasks.data.readers.errors import DataError
from tasks.data.readers.packing import RawLog

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
REPLACEMENT = "\ufffd"
CONTROL_BYTES = (*range(9), *range(14, 27))
"""Bytes text has no use for; more than 1 % of them makes a file binary."""


@dataclass(frozen=True)
class Text:
    """A log as UTF-8 text.

    Attributes:
        data: Content, or None where the file at ``path`` is already UTF-8 and read in place.
        path: The file.
        encoding: Encoding the content had.
        is_lossy: True if undecodable bytes were replaced by U+FFFD.
        warnings: Things to state about the encoding.
    """

    data: bytes | None
    path: Path
    encoding: str
    is_lossy: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def source(self) -> bytes | Path:
        """What a parser should read."""
        return self.path if self.data is None else self.data

    def read_bytes(self) -> bytes:
        """Return the whole content."""
        return self.path.read_bytes() if self.data is None else self.data


def sniff_encoding(head: bytes) -> str:
    """Name the encoding the first bytes show; ``utf-8`` where nothing speaks against it.

    >>> sniff_encoding("a,b".encode("utf-16"))
    'utf-16'
    >>> sniff_encoding("a,b,c,d".encode("utf-16-le"))
    'utf-16-le'
    >>> sniff_encoding(b"a,b")
    'utf-8'
    """
    for mark, name in BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return name
    sample = head[:4096]
    if b"\0" in sample and len(sample) >= 4:
        even, odd = sample[0::2].count(0), sample[1::2].count(0)
        if odd > 0.4 * len(sample) / 2 and even < 0.05 * len(sample) / 2:
            return "utf-16-le"
        if even > 0.4 * len(sample) / 2 and odd < 0.05 * len(sample) / 2:
            return "utf-16-be"
    return "utf-8"


def as_utf8(log: RawLog) -> Text:
    """Return the log as UTF-8 with ``\\n`` line ends, without reading it where it is that already.

    A UTF-8 file is not checked to the end here: the parser meets its errors, and ``repair`` then
    settles what the encoding was.

    Raises:
        DataError: The content is no text, or not what its byte order mark says.
    """
    head = log.head()
    encoding = sniff_encoding(head)
    data = log.data
    if encoding.startswith(("utf-16", "utf-32")):
        try:
            data = log.read_bytes().decode(encoding).encode()
        except UnicodeError as error:
            raise DataError(
                f"{log.label} looks like {encoding} but is not ({error}). Save it as UTF-8."
            ) from error
        head = data[: len(head)]
    elif _is_binary(head):
        position = next(i for i, byte in enumerate(head) if byte in CONTROL_BYTES)
        raise DataError(
            f"{log.label} is no text file (byte {head[position]:#04x} at offset {position}). "
            "Give CSV, TSV, JSON lines, Parquet, .inter or .dat, plain or in gzip or zip."
        )
    if b"\r" in head and b"\n" not in head:
        data = (log.read_bytes() if data is None else data).replace(b"\r", b"\n")
    return Text(data, log.path, encoding)


def _is_binary(head: bytes) -> bool:
    return sum(head.count(code) for code in CONTROL_BYTES) > 0.01 * len(head)


def repair(text: Text) -> Text:
    """Re-read text that is not valid UTF-8.

    Where most of the bytes beyond ASCII form valid UTF-8, the rest is damage: those bytes become
    U+FFFD and the rows holding them are set aside later. Otherwise the file is in a one-byte
    encoding and read as Windows-1252, or Latin-1 where that is impossible.

    >>> repair(Text("caf\u00e9".encode("latin-1"), Path("x"), "utf-8")).encoding
    'cp1252'
    """
    raw = text.read_bytes()
    decoded = raw.decode("utf-8", errors="replace")
    damaged = decoded.count(REPLACEMENT)
    beyond_ascii = len(decoded) - len(decoded.encode("ascii", errors="ignore"))
    if damaged * 2 <= beyond_ascii - damaged:
        warning = f"{damaged} bytes are not valid UTF-8; rows that need them are set aside."
        return Text(decoded.encode(), text.path, "utf-8", True, (warning,))
    encoding = "cp1252"
    try:
        decoded = raw.decode(encoding)
    except UnicodeDecodeError:
        encoding = "latin-1"
        decoded = raw.decode(encoding)
    warning = (
        f"The file is not UTF-8; it was read as {encoding}. If ids look odd, save it as UTF-8."
    )
    return Text(decoded.encode(), text.path, encoding, False, (warning,))
