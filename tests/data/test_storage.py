from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.data.storage import replaced_folder, write_whole


def _listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_folder_appears_with_its_files(tmp_path: Path) -> None:
    with replaced_folder(tmp_path / "deep" / "out") as partial:
        (partial / "a").write_text("1")
        assert not (tmp_path / "deep" / "out").exists()
    assert _listing(tmp_path / "deep") == ["out"]
    assert (tmp_path / "deep" / "out" / "a").read_text() == "1"


def test_an_old_folder_is_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    with replaced_folder(tmp_path / "out") as partial:
        (partial / "new").write_text("new")
    assert _listing(tmp_path / "out") == ["new"]
    assert _listing(tmp_path) == ["out"]


def test_an_error_leaves_the_old_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    with (
        contextlib.suppress(RuntimeError),
        replaced_folder(tmp_path / "out") as partial,
    ):
        (partial / "new").write_text("new")
        raise RuntimeError
    assert _listing(tmp_path) == ["out"]
    assert _listing(tmp_path / "out") == ["old"]


def test_leftovers_of_a_killed_writer_are_removed(tmp_path: Path) -> None:
    for name in (".out.partial", ".out.previous"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text("half")
    with replaced_folder(tmp_path / "out") as partial:
        assert _listing(partial) == []
    assert _listing(tmp_path) == ["out"]


def test_a_killed_writer_leaves_the_old_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    program = (
        "import time; from pathlib import Path\n"
        "from tasks.data.storage import replaced_folder\n"
        f"with replaced_folder(Path({str(tmp_path / 'out')!r})) as partial:\n"
        "    (partial / 'new').write_text('half')\n"
        "    time.sleep(60)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 30
    while not (tmp_path / ".out.partial" / "new").exists():
        assert time.monotonic() < deadline, "the writer did not start"
        time.sleep(0.02)
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    assert _listing(tmp_path / "out") == ["old"]


def test_a_link_is_replaced_and_its_target_kept(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "old").write_text("old")
    (tmp_path / "out").symlink_to(tmp_path / "cache")
    with replaced_folder(tmp_path / "out") as partial:
        (partial / "new").write_text("new")
    assert _listing(tmp_path) == ["cache", "out"]
    assert _listing(tmp_path / "out") == ["new"]
    assert _listing(tmp_path / "cache") == ["old"]


def test_a_file_is_written_whole_or_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "page.html"
    write_whole(path, "first")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_whole(path, "second")

    assert [each.name for each in tmp_path.iterdir()] == ["page.html"]
    assert path.read_text() == "first"
    write_whole(path, "third")
    assert path.read_text() == "third"
    assert write_whole(path, b"\x00\xff") == path
    assert path.read_bytes() == b"\x00\xff"
