"""The DAG is DVC's, matrix and templates resolved."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from flows.dag import DagError, read_dag, unchanged_stages


def test_stages_come_after_what_they_need(toy: Path) -> None:
    dag = {stage.name: stage for stage in read_dag(toy)}

    names = list(dag)
    assert sorted(names) == ["evaluate", "fetch", "train@gru-0", "train@xlstm-0"]
    for name, stage in dag.items():
        assert all(names.index(other) < names.index(name) for other in stage.upstream)
    assert dag["evaluate"].upstream == ("train@gru-0", "train@xlstm-0")
    assert dag["train@gru-0"].command == (
        sys.executable,
        "work.py",
        "train_gru",
        "out/gru_0.txt",
        "raw.txt",
    )
    assert unchanged_stages(list(dag.values())) == set()


def test_the_projects_own_dag_has_every_stage(repository: Path) -> None:
    names = {stage.name.partition("@")[0] for stage in read_dag(repository)}

    assert names == {"fetch", "prepare", "check", "train", "evaluate", "diagnose", "report"}


def test_a_broken_dag_is_named_with_its_line(toy: Path) -> None:
    (toy / "dvc.yaml").write_text("stages:\n  fetch: [")

    with pytest.raises(DagError, match=r"dvc\.yaml can't be used.*line"):
        read_dag(toy)


def test_a_template_without_value_is_an_error(toy: Path) -> None:
    text = (toy / "dvc.yaml").read_text().replace("${experiment.seeds}", "${experiment.nothing}")
    (toy / "dvc.yaml").write_text(text)

    with pytest.raises(DagError, match=r"experiment\.nothing"):
        read_dag(toy)


@pytest.mark.parametrize("content", ["", '{"a'])
def test_a_torn_file_of_locks_is_removed(toy: Path, content: str) -> None:
    path = toy / ".dvc" / "tmp" / "rwlock"
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)

    assert read_dag(toy)

    assert not path.exists() or isinstance(json.loads(path.read_text()), dict)
