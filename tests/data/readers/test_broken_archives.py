"""Packed logs that are damaged, unsafe or unclear, and files that are not there."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import pytest

from tasks.data.readers import DataError, read_interactions
from tasks.data.readers.packing import open_log

CSV = b"user_id,item_id,timestamp\nu1,i1,1500000000\nu2,i2,1500000001\n"
GZIP = gzip.compress(CSV * 50, mtime=0)


def pack(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def encrypted(archive: bytes) -> bytes:
    """Set the password flag in both headers of an archive's only member."""
    changed = bytearray(archive)
    changed[6] |= 1
    changed[archive.index(b"PK\x01\x02") + 8] |= 1
    return bytes(changed)


def linked(name: str, target: bytes) -> bytes:
    """Return an archive whose only member is a symbolic link."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = 0o120777 << 16
        archive.writestr(info, target)
    return buffer.getvalue()


def case(name: str, file: str, content: bytes, *expected: object, **reading: str):
    return pytest.param(file, content, expected, reading, id=name)


TWO_LOGS = {"a.csv": CSV, "b.csv": CSV}
ZIP = pack({"x/ratings.csv": CSV, "x/README.txt": b"terms", "x/movies.csv": b"a,b\n"})
CASES = [
    case("gzip", "log.csv.gz", gzip.compress(CSV), 2, 0),
    case("gzip_under_another_name", "log.csv", gzip.compress(CSV), 2, 0),
    case("gzip_of_two_parts", "log.csv.gz", gzip.compress(CSV) + gzip.compress(CSV[26:]), 4, 0),
    case("gzip_cut", "log.csv.gz", GZIP[:-20], "damaged gzip", "again"),
    case("gzip_cut_in_the_head", "log.csv.gz", GZIP[:6], "damaged gzip"),
    case("gzip_without_checksum", "log.csv.gz", GZIP[:-8], "damaged gzip"),
    case("gzip_wrong_checksum", "log.csv.gz", GZIP[:-8] + b"\0" * 8, "damaged gzip", "CRC"),
    case("gzip_bytes_changed", "log.csv.gz", GZIP[:20] + b"\xff\xff" + GZIP[22:], "damaged gzip"),
    case("gzip_and_garbage", "log.csv.gz", GZIP + b"garbage", "damaged gzip"),
    case("gzip_of_nothing", "log.csv.gz", gzip.compress(b""), "empty once unpacked"),
    case("gzip_twice", "log.csv.gz", gzip.compress(gzip.compress(CSV)), "packed twice"),
    case("gzip_of_tar", "log.tgz", gzip.compress(b"x" * 257 + b"ustar" + b"\0" * 250), "tar"),
    case("gzip_of_r_data", "log.RData", gzip.compress(b"RDX3\nX\n"), "R data file"),
    case("gzip_name_without_gzip", "log.csv.gz", CSV, 2, 0),
    case("zip", "log.zip", ZIP, 2, 0),
    case("zip_stored", "log.zip", pack({"u.data": CSV}, zipfile.ZIP_STORED), 2, 0),
    case("zip_of_two_logs", "log.zip", pack(TWO_LOGS), "2 files", "a.csv, b.csv", "::MEMBER"),
    case("zip_of_no_log", "log.zip", pack({"a.png": b"x"}), "no log", "a.png"),
    case("zip_of_nothing", "log.zip", pack({}), "no log", "nothing"),
    case("zip_of_folders", "log.zip", pack({"a/": b""}), "no log"),
    case("zip_of_empty_log", "log.zip", pack({"a.csv": b""}), "empty once unpacked"),
    case("zip_in_zip", "log.zip", pack({"a.csv": ZIP}), "packed twice"),
    case("zip_cut", "log.zip", ZIP[:-30], "damaged"),
    case("zip_bytes_changed", "log.zip", ZIP[:60] + b"\xff\xff\xff" + ZIP[63:], "damaged"),
    case("zip_parent_path", "log.zip", pack({"../evil.csv": CSV}), "'../evil.csv'", "refused"),
    case("zip_deep_parent", "log.zip", pack({"a/../../evil.csv": CSV}), "outside the archive"),
    case("zip_absolute_path", "log.zip", pack({"/etc/evil.csv": CSV}), "outside the archive"),
    case("zip_windows_path", "log.zip", pack({"..\\evil.csv": CSV}), "outside the archive"),
    case("zip_drive_path", "log.zip", pack({"C:evil.csv": CSV}), "outside the archive"),
    case("zip_of_a_link", "log.zip", linked("a.csv", b"/etc/passwd"), "no separator"),
    case("zip_lzma", "log.zip", pack({"a.csv": CSV}, zipfile.ZIP_LZMA), 2, 0),
    case(
        "tar_gz", "log.tar.gz", gzip.compress(b"x" * 257 + b"ustar\0" + b"\0" * 600), "tar archive"
    ),
    case("zip_unsafe_beside_log", "log.zip", pack({"a.csv": CSV, "../b": b""}), "outside"),
    case("zip_password", "log.zip", encrypted(pack({"a.csv": CSV})), "password"),
    case("excel", "log.xlsx", pack({"[Content_Types].xml": b"", "xl/a.xml": b""}), "Excel"),
    case("mac_leftovers", "log.zip", pack({"a.csv": CSV, "__MACOSX/._a.csv": b"x"}), 2, 0),
    case("old_excel", "log.xls", b"\xd0\xcf\x11\xe0" + b"\0" * 500, "Excel"),
]


@pytest.mark.parametrize(("file", "content", "expected", "reading"), CASES)
def test_broken_archive(file, content, expected, reading, assert_read_as) -> None:
    assert_read_as(file, content, expected, reading)


def test_chosen_member_is_stated(assert_read_as) -> None:
    report = assert_read_as("log.zip", ZIP, (2, 0), {})
    assert report.member == "x/ratings.csv"
    assert "x/ratings.csv was read from log.zip, 2 other files" in report.warnings[0]


def test_member_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "log.zip").write_bytes(pack(TWO_LOGS))
    frame, report = read_interactions(f"{tmp_path}/log.zip::b.csv")
    assert (len(frame), report.member) == (2, "b.csv")
    with pytest.raises(DataError, match=r"no member 'c.csv'; it holds a.csv, b.csv"):
        read_interactions(f"{tmp_path}/log.zip::c.csv")


def test_members_of_the_same_name_are_refused(tmp_path: Path) -> None:
    packed = pack({"a.csv": CSV, "b.csv": CSV}).replace(b"b.csv", b"a.csv")
    (tmp_path / "log.zip").write_bytes(packed)
    with pytest.raises(DataError, match="2 files that could be the log"):
        read_interactions(tmp_path / "log.zip")
    with pytest.raises(DataError, match=r"2 members named 'a.csv'\. Unpack it"):
        read_interactions(f"{tmp_path}/log.zip::a.csv")


@pytest.mark.parametrize("name", ["bomb.csv.gz", "bomb.zip"])
def test_archive_bomb_is_stopped(name: str, tmp_path: Path) -> None:
    zeros = b"0" * (80 * 2**20)
    packed = gzip.compress(zeros) if name.endswith("gz") else pack({"a.csv": zeros})
    (tmp_path / name).write_bytes(packed)
    with pytest.raises(DataError, match="archive bomb"):
        open_log(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "message"), [("a.csv.gz", "unpacks to more than"), ("a.zip", "says it unpacks to")]
)
def test_unpacked_size_is_limited(name: str, message: str, tmp_path: Path) -> None:
    packed = gzip.compress(CSV) if name.endswith("gz") else pack({"a.csv": CSV})
    (tmp_path / name).write_bytes(packed)
    with pytest.raises(DataError, match=message):
        read_interactions(tmp_path / name, max_unpacked_bytes=20)


def test_file_that_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_bytes(CSV)
    with pytest.raises(DataError, match=r"is a folder \(with ratings.csv\)"):
        read_interactions(tmp_path)
    with pytest.raises(DataError, match=r"absent.csv does not exist"):
        read_interactions(tmp_path / "absent.csv")
    with pytest.raises(DataError, match="is not a regular file"):
        read_interactions("/dev/null")
    with pytest.raises(DataError, match="is no file name"):
        read_interactions("a\0b")
    (tmp_path / "b.zip").write_bytes(CSV)
    with pytest.raises(DataError, match="is no zip archive"):
        read_interactions(f"{tmp_path}/b.zip::a.csv")


@pytest.mark.parametrize("url", ["https://host/log.csv", "s3://bucket/log.csv"])
def test_address_is_refused(url: str) -> None:
    with pytest.raises(DataError, match=r"a URL. Download it"):
        read_interactions(url)


@pytest.mark.parametrize("name", ["a b.csv", "*.csv", "[a].csv", "\U0001f600.csv", "a'b.csv", "-x"])
def test_odd_file_names(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(CSV)
    assert len(read_interactions(tmp_path / name)[0]) == 2
