"""`assay recommend` as people type it, in one process."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flows import cli
from tests.serving.conftest import log_of, project  # noqa: F401


@pytest.fixture
def assay(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # noqa: F811
    """Runs the command line in the project; returns exit code, stdout and stderr."""
    monkeypatch.chdir(project)

    def run(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["assay", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return run


def documents(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="session")
def user(project: Path) -> str:  # noqa: F811
    with (project / "data" / "prepared" / "users.csv").open(newline="") as file:
        return next(csv.DictReader(file))["raw_id"]


def test_a_user_is_answered_from_all_their_events_by_the_best_model(assay, project, user) -> None:  # noqa: F811
    code, out, _ = assay("recommend", "--user", user, "--json", "--top", "3")
    (found,) = documents(out)
    history = log_of(project, user)
    assert (code, found["answered_by"], found["events"]) == (0, "gru", len(history))
    assert len(found["recommended"]) == 3
    _, out, _ = assay("recommend", "--history", ",".join(history), "--json", "--top", "3")
    assert documents(out)[0]["recommended"] == found["recommended"]


@pytest.mark.parametrize(
    "model",
    ["popularity", "transitions", "logistic_regression", "gru", "lstm", "sasrec", "xlstm"],
)
def test_every_model_answers(assay, model: str) -> None:
    code, out, _ = assay("recommend", "--history", "i0003,i0004", "--model", model, "--json")
    (found,) = documents(out)
    assert (code, found["answered_by"], len(found["recommended"])) == (0, model, 10)
    scores = [each["score"] for each in found["recommended"]]
    assert scores == sorted(scores, reverse=True)


def test_unknown_items_and_users_are_reported(assay) -> None:
    _, out, _ = assay("recommend", "--history", "i0003,never", "--json")
    (found,) = documents(out)
    assert (found["unknown"], found["events"], found["answered_by"]) == (["never"], 1, "gru")
    code, out, _ = assay("recommend", "--user", "nobody")
    assert code == 0
    assert "user 'nobody' is not in the prepared data" in out
    assert "the most popular items answer" in out


def test_empty_histories_are_refused_where_so_set(assay, project, tmp_path) -> None:  # noqa: F811
    settings = project / "params.yaml"
    before = settings.read_text()
    settings.write_text(before.replace("empty_history: popularity", "empty_history: refuse"))
    try:
        code, _, err = assay("recommend", "--history", "never")
    finally:
        settings.write_text(before)
    assert code == 2
    assert "holds no item the model knows" in err


def test_seen_items_can_be_left_out(assay) -> None:
    _, out, _ = assay("recommend", "--history", "i0003,i0004", "--top", "30", "--json")
    assert len(documents(out)[0]["recommended"]) == 30
    _, out, _ = assay(
        "recommend", "--history", "i0003,i0004", "--top", "30", "--exclude-seen", "--json"
    )
    listed = {each["item"] for each in documents(out)[0]["recommended"]}
    assert len(listed) == 28
    assert not listed & {"i0003", "i0004"}


def test_names_stand_for_ids_where_a_table_gives_them(assay, tmp_path: Path) -> None:
    table = tmp_path / "items.csv"
    rows = "".join(f'i{n:04d},"Film, the {n}th"\n' for n in range(1, 31))
    table.write_text("id,name\n" + rows)
    code, out, _ = assay(
        "recommend", "--history", '"Film, the 3th",i0004', "--items", str(table), "--json"
    )
    (found,) = documents(out)
    assert (code, found["unknown"], found["events"]) == (0, [], 2)
    assert all(each["name"].startswith("Film, the ") for each in found["recommended"])
    _, out, _ = assay("recommend", "--history", "i0003,i0004", "--items", str(table))
    assert "Film, the" in out


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_a_file_of_requests_gives_a_file_of_answers(assay, tmp_path: Path, user, ending) -> None:
    batch, output = tmp_path / f"in{ending}", tmp_path / f"out{ending}"
    rows = [{"user": user}, {"history": ["i0001", "what"]}, {"user": "nobody"}]
    if ending == ".csv":
        batch.write_text(f'user,history\n{user},\n,"i0001,what"\nnobody,\n')
    else:
        batch.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, err = assay(
        "recommend", "--batch", str(batch), "--output", str(output), "--top", "2"
    )
    assert (code, out) == (0, "")
    assert "3 requests answered, 1 of them by popularity; 1 unknown users, 1 unknown items" in err
    if ending == ".csv":
        with output.open(newline="") as file:
            table = list(csv.DictReader(file))
        assert [row["request"] for row in table] == ["1", "1", "2", "2", "3", "3"]
        assert [row["answered_by"] for row in table[::2]] == ["gru", "gru", "popularity"]
        best = table[0]["item"]
    else:
        answers = documents(output.read_text())
        assert [each["label"] for each in answers] == [user, "i0001,what", "nobody"]
        best = answers[0]["recommended"][0]["item"]
    _, out, _ = assay("recommend", "--user", user, "--json", "--top", "1")
    assert documents(out)[0]["recommended"][0]["item"] == best


def test_a_followed_user_goes_on_from_the_prepared_history(assay, project, user) -> None:  # noqa: F811
    history = log_of(project, user)
    events = ["i0007", "i0002"]
    lines = "".join(f"{user},{item}\n" for item in events) + "new,i0005\n"
    code, out, err = assay("recommend", "--follow", "--json", "--top", "4", stdin=lines)
    first, second, third = documents(out)
    assert code == 0
    assert (first["events"], second["events"], third["events"]) == (
        len(history) + 1, len(history) + 2, 1,
    )  # fmt: skip
    _, out, _ = assay("recommend", "--history", ",".join([*history, *events]), "--json")
    whole = documents(out)[0]["recommended"][:4]
    assert [each["item"] for each in second["recommended"]] == [each["item"] for each in whole]
    for one, other in zip(second["recommended"], whole, strict=True):
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)
    assert "3 events answered, 0 lines could not be read" in err


def test_bad_lines_of_a_stream_are_named_and_the_rest_is_answered(assay) -> None:
    lines = "u,i0001\nu\nu,i0002,yesterday\nu,never\n"
    code, out, err = assay("recommend", "--follow", "--json", stdin=lines)
    found = documents(out)
    assert code == 2
    assert [each["events"] for each in found] == [1, 1]
    assert found[1]["unknown"] == ["never"]
    assert "line 2: 'u'; expected user,item" in err
    assert "line 3: time 'yesterday' can't be read" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "gur", "--user", "u"], "gur is not trained"),
        (["--model", "gru", "--seed", "7", "--user", "u"], "gru with seed 7 is not trained"),
        (["--run", "absent", "--user", "u"], "run 'absent' does not exist"),
        (["--run", "../..", "--user", "u"], "run name '../..' can't be a folder name"),
        (["--run", "/etc", "--user", "u"], "run name '/etc' can't be a folder name"),
        (["--user", "u", "--top", "1000000"], "less than or equal to 100000"),
        (["--history", "i0001,i0002", "--times", "9,1"], "time 2 is before time 1"),
        ([], "expected one of --user ID, --history A,B,C, --batch FILE and --follow; got 0"),
        (["--user", "u", "--history", "a"], "got 2 of them"),
        (["--batch", "absent.csv"], "absent.csv does not exist"),
        (["--batch", "absent.xlsx"], "expected .csv or .jsonl"),
        (["--user", "u", "--items", "absent.csv"], "absent.csv does not exist"),
        (["--user", "u", "--times", "1"], "--times goes with --history"),
        (["--history", "i0001", "--times", "1,2"], "2 times for 1 events"),
        (["--history", "i0001", "--times", "soon"], "time 'soon' can't be read"),
        (["--user", "u", "--output", "answers.xlsx"], "ends in .csv or .jsonl"),
        (["--user", "u", "--output", "no/such/folder.csv"], "its folder does not exist"),
        (["--follow", "--explain"], "--explain prints"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_gets_a_message_and_code_2(assay, arguments, message) -> None:
    code, _, err = assay("recommend", *arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_half_a_surrogate_pair_is_named_with_its_line(assay, tmp_path) -> None:
    path = tmp_path / "asked.jsonl"
    path.write_text('{"history": ["\\ud83c\\udfac"]}\n{"history": ["\\ud83c"]}\n')
    code, _, err = assay("recommend", "--batch", str(path))
    assert code == 2
    assert "line 2 holds half of a surrogate pair" in err
    assert "Traceback" not in err


def test_a_line_that_is_no_utf8_costs_itself_only(project) -> None:  # noqa: F811
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "recommend", "--follow"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])},
        input=b"u1,i0001\nu\xff,i0001\nu2,i0002\n",
        capture_output=True,
    )
    assert done.returncode == 2
    assert b"line 2: 'u\\udcff,i0001' is not UTF-8." in done.stderr
    assert b"2 events answered, 1 lines could not be read" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_terminal_without_a_character_shows_its_number(project) -> None:  # noqa: F811
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "recommend", "--user", "caf\u00e9 \U0001f3ac"],
        cwd=project,
        env={
            **os.environ,
            "PYTHONIOENCODING": "ascii",
            "PYTHONPATH": str(Path(cli.__file__).parents[1]),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "caf\\xe9 \\U0001f3ac (0 events" in done.stdout


def test_models_of_other_data_are_not_served(assay, project, tmp_path) -> None:  # noqa: F811
    path = project / "artifacts" / "models" / "gru" / "seed_0" / "record.json"
    before = path.read_text()
    record = json.loads(before) | {"data_hash": "0" * 64}
    path.write_text(json.dumps(record))
    try:
        code, _, err = assay("recommend", "--user", "u")
    finally:
        path.write_text(before)
    assert code == 2
    assert "was trained on data 000000000000" in err


def test_an_explanation_shows_what_each_event_did(assay) -> None:
    events = ["i0003", "i0004", "i0009"]
    code, out, _ = assay(
        "recommend", "--history", ",".join(events), "--model", "xlstm", "--explain", "--json"
    )
    (found,) = documents(out)
    assert code == 0
    assert found["explained"]["item"] == found["recommended"][0]["name"]
    history = found["explained"]["history"]
    assert [event["item"] for event in history] == events
    assert all(event["influence"] != 0 for event in history)
    assert all(event["gradient"] != 0 for event in history)
    _, out, _ = assay("recommend", "--history", ",".join(events), "--explain")
    assert "What moved " in out
    assert all(event in out for event in events)


def test_an_answer_by_popularity_has_nothing_to_explain(assay) -> None:
    _, out, _ = assay("recommend", "--user", "nobody", "--explain", "--json")
    assert documents(out)[0]["explained"] is None
    _, out, _ = assay("recommend", "--user", "nobody", "--explain")
    assert "no event to explain by" in out


def test_models_without_gradients_are_explained_by_leaving_out(assay) -> None:
    _, out, _ = assay(
        "recommend", "--history", "i0003,i0004", "--model", "transitions", "--explain", "--json"
    )
    history = documents(out)[0]["explained"]["history"]
    assert [event["gradient"] for event in history] == [None, None]
    assert history[0]["influence"] == pytest.approx(0.0, abs=1e-9)
    assert history[1]["influence"] != 0
