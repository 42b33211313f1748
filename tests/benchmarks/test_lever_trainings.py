"""Which trainings are made, in which order, and what is left of those that fail."""

import json
from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks import lever_trainings
from benchmarks.lever_trainings import append, print_table, read_rows, work


@pytest.fixture
def options(tmp_path):
    claims = tmp_path / "claims"
    claims.mkdir()
    return Namespace(
        run=Path("run"),
        to=tmp_path / "out.jsonl",
        names="as-tuned,bpr",
        seeds="0,1",
        max_epochs=0,
        claims=claims,
    )


def fake(run, name, seed, limits):
    if (name, seed) == ("bpr", 0):
        raise RuntimeError("too hot")
    value = {"as-tuned": 0.10, "bpr": 0.05}[name] + seed / 100
    return {"lever": name, "seed": seed, "val/ndcg_at_10": value, "wall_seconds": 1.0}


def test_workers_share_trainings_and_go_on_after_one_that_fails(options, monkeypatch, capsys):
    monkeypatch.setattr(lever_trainings, "train_one", fake)
    (options.claims / "as-tuned-1").mkdir()  # another worker's
    assert work(options) == 1
    assert work(options) == 0
    found = [(row["lever"], row["seed"]) for row in read_rows(options.to)]
    assert found == [("as-tuned", 0), ("bpr", 0), ("bpr", 1)]
    assert "bpr seed 1: 0.0600" in capsys.readouterr().out
    print_table(options.to)
    told = capsys.readouterr().out
    assert "| bpr | .0600 | -.0400 | 1 |" in told
    assert "failed: bpr seed 0: RuntimeError: too hot" in told


def test_finished_trainings_are_not_made_again(options, monkeypatch):
    monkeypatch.setattr(lever_trainings, "train_one", fake)
    append(options.to, fake("run", "as-tuned", 0, {}))
    work(options)
    rows = [json.loads(line) for line in options.to.read_text().splitlines()]
    assert [row["lever"] for row in rows].count("as-tuned") == 1
