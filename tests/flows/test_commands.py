"""The command line: JSON for scripts, errors people can act on, no colour where none is wanted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows import cli, data_commands, diagnose_command
from tasks.settings import SettingsError

ASSAY = (sys.executable, "-c", "from flows.cli import main; main()")
EXPECTED_ERRORS = {
    "not a project": (["report"], "is not inside an Assay project"),
    "missing log": (["data", "preview", "no.csv"], "no.csv does not exist"),
    "column without log": (["run", "--user-column", "u"], "--user-column is 'u' without --data"),
    "unknown verdict": (["diagnose", "--fail-on", "x"], "expected never, suspect or faulty"),
    "unknown stage": (["stage", "x"], "expected one of fetch, prepare"),
    "unknown model": (["diagnose", "--model", "x"], "expected package.module:name"),
}


def _assay(*arguments: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    root = Path(cli.__file__).parents[1]
    return subprocess.run(
        [*ASSAY, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(root), **more},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(("arguments", "words"), EXPECTED_ERRORS.values(), ids=EXPECTED_ERRORS)
def test_expected_errors_are_one_message_and_exit_code_2(
    arguments: list[str], words: str, tmp_path: Path
) -> None:
    done = _assay(*arguments, folder=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_traceback_where_one_is_asked_for(tmp_path: Path) -> None:
    done = _assay("report", folder=tmp_path, ASSAY_DEBUG="1")
    assert done.returncode != 0
    assert "Traceback" in done.stderr


def test_the_preview_for_scripts_says_what_the_one_for_people_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log.csv"
    log.write_text("user,item,time\na,[bold]x,1600000000\nb,y,1600000001\nc,z,never\n")
    data_commands.preview(log, 2, as_json=True)
    facts = json.loads(capsys.readouterr().out)
    assert facts["usable_rows"] == 2
    assert facts["columns"] == {"user_id": "user", "item_id": "item", "timestamp": "time"}
    assert [row["item_id"] for row in facts["rows"]] == ["[bold]x", "y"]
    assert len(facts["unusable"]) == 1
    data_commands.preview(log, 2)
    shown = capsys.readouterr().out
    assert "2 usable rows, 1 unusable" in shown
    assert "user_id: column 'user'" in shown
    assert "2 users, 2 items, from 2020-09-13T12:26:40 to 2020-09-13T12:26:41 UTC" in shown
    assert "line 4: time 'never' is not a number of seconds from 1973 to 2100" in shown
    assert "[bold]x" in shown, "text of the log is not markup"


def test_the_example_log_is_the_same_for_a_seed_and_never_overwrites(tmp_path: Path) -> None:
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    for path in (first, second):
        data_commands.write_example(path, users=20, seed=1)
    assert first.read_bytes() == second.read_bytes()
    assert first.read_text().startswith("user,item,time\n")
    with pytest.raises(SettingsError, match=r"a\.csv exists already"):
        data_commands.write_example(first, users=20, seed=1)


def test_the_path_of_the_report_for_scripts(
    toy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = toy / "artifacts" / "report" / "report.html"
    page.parent.mkdir(parents=True)
    page.write_text("<title>A report</title>")
    monkeypatch.chdir(toy)
    from flows import launch

    launch.show_report(toy, "", open_it=False, as_json=True)
    assert json.loads(capsys.readouterr().out)["report"] == str(page)


@pytest.mark.parametrize("no_color", ["", "1"], ids=["colour", "no-colour"])
def test_no_color_is_respected(
    no_color: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", no_color)
    finding = {"number": "G1", "title": "Does it?", "verdict": "faulty", "sentence": "It does not."}
    diagnose_command._print({"findings": [finding | {"advice": ["do"]}], "headline": "Bad."}, False)
    shown = capsys.readouterr().out
    assert "FAULTY" in shown
    assert ("\x1b[31m" in shown) is (not no_color)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--name", "my-run"], "to go on from there: assay run --name my-run"),
        (["data", "list"], "Interrupted."),
    ],
    ids=["resumable", "other"],
)
def test_ctrl_c_says_how_to_go_on(
    arguments: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    from flows import launch

    monkeypatch.setattr(launch, "run_experiment", interrupt)
    monkeypatch.setattr(data_commands, "list_sources", interrupt)
    monkeypatch.setattr(sys, "argv", ["assay", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 130
    assert capsys.readouterr().err.strip().endswith(words)


@pytest.mark.parametrize("modules", ["flows.cli", "flows.launch, flows.start, flows.progress"])
def test_nothing_heavy_is_imported_before_it_is_needed(modules: str) -> None:
    # Prefect must not be: it reads its settings at import, and a run sets some of them first.
    program = (
        f"import sys, {modules}\n"
        "heavy = {'torch', 'polars', 'pandas', 'numpy', 'mlflow', 'prefect', 'dvc', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
