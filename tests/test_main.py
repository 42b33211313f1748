"""``python -m tasks``: how stages end."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tasks import __main__ as command


def test_sigterm_ends_a_stage_with_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    cleaned: list[str] = []

    def stage(name: str, *_: object, **__: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            cleaned.append(name)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "run_stage", stage)

    assert command.main(["evaluate"]) == 130
    assert cleaned == ["evaluate"]
    assert "evaluate: interrupted; run the same command to resume." in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_folder_that_is_gone_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    assert command.main(["fetch"]) == 1

    said = capsys.readouterr().err
    assert "fetch: [Errno 2] No such file or directory" in said
    assert "Traceback" not in said
