"""What SECURITY.md promises of the code, of its servers and of what it writes down."""

from __future__ import annotations

import ast
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import launch
from tasks.redaction import HIDDEN, hide_secrets

ROOMS = ("flows", "tasks", "xlstm_model")
UNPICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {
    *(
        "eval",
        "exec",
        "__import__",
        "torch.load",
        "torch.jit.load",
        "yaml.unsafe_load",
    ),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("pd.read_pickle", "pandas.read_pickle", "mktemp", "tempfile.mktemp", "shutil.unpack_archive"),
}
FORBIDDEN_METHODS = {"extractall", "read_pickle"}


def name_of(node: ast.expr) -> str:
    """Dotted name of what is called; of a method of something computed its own name."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    root = node.id if isinstance(node, ast.Name) else ""
    return ".".join([root, *reversed(parts)])


def dangers(source: str) -> Iterator[str]:
    """What a program text does that nothing from outside may reach."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            named = [alias.name for alias in node.names]
            modules = named if isinstance(node, ast.Import) else [node.module or ""]
            for module in modules:
                if module.partition(".")[0] in UNPICKLERS | {"yaml"}:
                    yield f"line {node.lineno}: import {module}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            called = name_of(node.func)
            words = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if called in FORBIDDEN_CALLS or called.rpartition(".")[2] in FORBIDDEN_METHODS:
                yield f"line {node.lineno}: {called}"
            if words.get("shell", "False") != "False":
                yield f"line {node.lineno}: {called} with a shell"
            if called in ("np.load", "numpy.load") and words.get("allow_pickle") != "False":
                yield f"line {node.lineno}: {called} without allow_pickle=False"
            if words.get("typ", "'safe'") in ("'unsafe'", "'base'"):
                yield f"line {node.lineno}: {called} of unsafe YAML"


@pytest.mark.parametrize("room", ROOMS)
def test_nothing_unpickles_evaluates_or_starts_a_shell(room: str, repository: Path) -> None:
    files = sorted((repository / room).rglob("*.py"))
    assert len(files) > 10

    found = [
        f"{path.relative_to(repository)}, {danger}"
        for path in files
        for danger in dangers(path.read_text(encoding="utf-8"))
    ]

    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "import yaml",
        "torch.load(path)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "subprocess.run(line, shell=True)",
        "os.system(line)",
        "archive.extractall(folder)",
        "open_archive(path).extractall(folder)",
        "YAML(typ='unsafe')",
        "eval(text)",
    ],
)
def test_the_search_finds_what_it_is_for(line: str) -> None:
    assert list(dangers(line))


@pytest.mark.parametrize("tool", ["mlflow", "prefect"])
def test_servers_listen_on_this_machine_only(
    tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, command: started.append(command))
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "params.yaml").write_text("{}\n")

    launch.serve_ui(tmp_path, tool, 5005)

    (command,) = started
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert "0.0.0.0" not in " ".join(command)


def test_nothing_names_an_address_open_to_others(repository: Path) -> None:
    for room in ROOMS:
        paths = list((repository / room).rglob("*.py"))
        assert paths, room
        for path in paths:
            assert "0.0.0.0" not in path.read_text(encoding="utf-8"), path


def test_static_checks_run_in_ci(repository: Path) -> None:
    ruff = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    makefile = (repository / "Makefile").read_text()
    check = makefile.partition("\ncheck:")[2].partition("\n\n")[0]

    assert "S" in ruff["select"]
    assert {rule for rule in ruff["ignore"] if rule.startswith("S")} == {"S101", "S311"}
    assert "ruff check ." in check
    assert re.search(r"bandit .*-r flows tasks xlstm_model", check)
    assert "make check\n" in (repository / ".ci" / "run").read_text()
    assert ".ci/audit.py constraints.txt" in makefile


@pytest.mark.parametrize(
    "name",
    [
        *("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY", "DB_PASS"),
        *("PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING", "OPENAI_API_KEY"),
        *("GOOGLE_APPLICATION_CREDENTIALS", "SIGNING_KEY", "PRIVATE_KEY", "KEY_PASSPHRASE"),
        *(
            "AZURE_STORAGE_CONNECTION_STRING",
            "AZURE_STORAGE_KEY",
            "SLACK_WEBHOOK",
            "SESSION_COOKIE",
        ),
    ],
)
def test_values_of_variables_named_like_secrets_are_hidden(name: str) -> None:
    told = hide_secrets("refused with user:hunter2-long here", {name: "user:hunter2-long"})
    assert told == f"refused with {HIDDEN} here"


def test_every_line_of_a_secret_is_hidden() -> None:
    key = "-----BEGIN KEY-----\nMIIBOgIBAAJB\nAKj34GkxFhD9\n-----END KEY-----\n"
    told = hide_secrets("line 2 is MIIBOgIBAAJB\nand then AKj34GkxFhD9", {"PRIVATE_KEY": key})
    assert told == f"line 2 is {HIDDEN}\nand then {HIDDEN}"


@pytest.mark.parametrize("name", ["HOME", "PATH", "KEYBOARD", "XAUTHORITY", "PASSENGERS", "LANG"])
def test_innocent_variables_are_left(name: str) -> None:
    assert hide_secrets("in /home/somebody", {name: "/home/somebody"}) == "in /home/somebody"
