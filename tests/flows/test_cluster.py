"""Work spread over a local Dask cluster, under a real Prefect server."""

from __future__ import annotations

import sys

import pytest

from flows.cluster import spread
from flows.fault_commands import run_faults
from tasks.fault_benchmark.rows import RESULTS, read


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


def test_address_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"cluster is 'myhost'.*tcp://"):
        spread(print, [1], name="x", cluster="myhost", on_result=print)


def test_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "prefect_dask", None)
    with pytest.raises(ValueError, match=r"\[cluster\]"):
        spread(print, [1], name="x", on_result=print)


def test_nothing_to_do_starts_nothing():
    assert spread(print, [], name="x", cluster="no address at all", on_result=print) == 0
