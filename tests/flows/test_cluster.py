"""Work spread over a local Dask cluster, under a real Prefect server."""

from __future__ import annotations

import contextlib
import socket
import sys

import pytest

from flows.cluster import spread
from flows.fault_commands import run_faults
from flows.tune_command import tune
from tasks.data import fetch_stage, prepare_stage
from tasks.fault_benchmark.rows import RESULTS, read
from tasks.settings import settings_from_dict, write_params


@pytest.mark.long
def test_faults_run_on_a_cluster_as_they_do_at_home(tmp_path, prefect_server):
    pytest.importorskip("prefect_dask", reason="the extra `cluster` is not installed")
    only = ("bidirectional", "labels_permuted")
    outcome = run_faults(
        tmp_path, only=only, seeds=1, models=("gru",), cluster="local", workers=2, healthy=False
    )
    assert (outcome.run, outcome.left) == (3, 0)
    on_cluster = read(tmp_path / RESULTS)
    home = tmp_path / "home"
    run_faults(home, only=only, seeds=1, models=("gru",), healthy=False)
    reds = [
        {(row.id, row.kind): [red.question for red in row.reds] for row in rows}
        for rows in (on_cluster, read(home / RESULTS))
    ]
    assert reds[0] == reds[1]
    again = run_faults(
        tmp_path, only=only, seeds=1, models=("gru",), cluster="local", healthy=False
    )
    assert (again.run, again.kept) == (0, 3)


@pytest.fixture
def another_cluster():
    """Somebody at Dask's own port for pages, if nobody is there yet."""
    with socket.socket() as taken:
        with contextlib.suppress(OSError):
            taken.bind(("127.0.0.1", 8787))
            taken.listen()
        yield


@pytest.mark.long
@pytest.mark.usefixtures("another_cluster")
def test_a_search_runs_on_a_cluster_and_goes_on_where_it_stopped(tmp_path, prefect_server):
    pytest.importorskip("prefect_dask", reason="the extra `cluster` is not installed")
    changed = {
        "experiment": {"models": ["gru"]},
        "data": {"source": "synthetic", "synthetic": {"num_users": 60, "num_items": 20}},
        "train": {"shared": {"max_epochs": 2, "max_seq_len": 8, "device": "cpu"}},
        "tracking": {"enabled": False},
    }
    settings = settings_from_dict(changed)
    write_params(settings, tmp_path / "params.yaml")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    fetch_stage.run(settings, tmp_path)
    prepare_stage.run(settings, tmp_path)

    found = tune(tmp_path, trials=2, workers=2, cluster="local", as_json=True)
    assert found["gru"]["trials"] == 2
    assert 0 < found["gru"]["val/ndcg_at_10"] <= 1

    again = tune(tmp_path, trials=3, workers=2, cluster="local", as_json=True)
    assert again["gru"]["trials"] == 3


def test_address_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"cluster is 'myhost'.*tcp://"):
        spread(print, [1], name="x", cluster="myhost", on_result=print)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("tcp://127.0.0.1:9", "Connection refused"),
        ("tcp://127.0.0.1", "names no host and port"),
        ("tcp://:8786", "names no host and port"),
        ("tcp://127.0.0.1:99999999", "out of range"),
    ],
    ids=["nobody", "no port", "no host", "no such port"],
)
def test_scheduler_that_does_not_answer_is_named_before_anything_starts(address, reason):
    pytest.importorskip("prefect_dask", reason="the extra `cluster` is not installed")
    with pytest.raises(ValueError, match=rf"no Dask scheduler answers at {address}.*{reason}"):
        spread(print, [1], name="x", cluster=address, on_result=print)


def test_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "prefect_dask", None)
    with pytest.raises(ValueError, match=r"\[cluster\]"):
        spread(print, [1], name="x", on_result=print)


def test_nothing_to_do_starts_nothing():
    assert spread(print, [], name="x", cluster="no address at all", on_result=print) == 0
