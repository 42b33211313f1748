"""Spreads independent pieces of work over a Dask cluster, as the tasks of one Prefect flow.

The cluster is a local one made for the purpose, or one that runs already. Needs the extra
``cluster`` (``pip install -e '.[cluster]'``).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from flows import prefect_environment
from tasks.redaction import hide_secrets

LOCAL = "local"
"""Instead of a scheduler's address: a cluster of processes on this machine."""
KNOCK_SECONDS = 10.0


def spread(
    function: Callable[[Any], Any],
    pieces: Sequence[Any],
    *,
    name: str,
    cluster: str = LOCAL,
    workers: int = 2,
    on_result: Callable[[Any], None],
) -> int:
    """Call a function with every piece, on a cluster, and hand over results as they come.

    Args:
        function: At the top level of a module that the workers can import.
        pieces: Its arguments; what can be pickled.
        name: Of the flow, as the Prefect UI shows it.
        cluster: `LOCAL`, or the address of a Dask scheduler, such as ``tcp://host:8786``.
        workers: Processes of a local cluster, each with one thread.
        on_result: Called in this process with each result.

    Returns:
        The number of pieces.

    Raises:
        ValueError: Dask is not installed, or nothing answers at the address.
    """
    if not pieces:
        return 0
    runner = _runner(cluster, workers)
    prefect_environment.prepare()
    from prefect import flow, task
    from prefect.futures import as_completed

    from flows.start import server_that_answers

    work = task(name=name)(function)

    @flow(name=name, task_runner=runner)
    def spread_out() -> None:
        futures = [work.submit(piece) for piece in pieces]
        for future in as_completed(futures):
            on_result(future.result())

    with server_that_answers():
        spread_out()
    return len(pieces)


def _knock(cluster: str) -> None:
    """Ask whether anything listens at an address, before a flow is begun for it.

    Raises:
        ValueError: nothing does, or the address names no port.
    """
    address = urlsplit(cluster)
    try:
        if not address.hostname or not address.port:
            raise ValueError("it names no host and port")
        socket.create_connection((address.hostname, address.port), KNOCK_SECONDS).close()
    except (OSError, ValueError) as error:
        raise ValueError(
            f"no Dask scheduler answers at {hide_secrets(cluster)} ({error}). Start one with "
            f"`dask scheduler`, correct the address, or use {LOCAL!r}."
        ) from error


def _runner(cluster: str, workers: int) -> Any:
    if cluster != LOCAL and "://" not in cluster:
        raise ValueError(
            f"cluster is {cluster!r}; expected {LOCAL!r}, or the address of a Dask scheduler such "
            "as tcp://127.0.0.1:8786."
        )
    try:
        from prefect_dask import DaskTaskRunner
    except ImportError as error:
        raise ValueError(
            "Dask is not installed; install the extra: pip install -e '.[cluster]'"
        ) from error
    if cluster != LOCAL:
        _knock(cluster)
        return DaskTaskRunner(address=cluster)
    # Workers inherit it: one thread each, as many workers as there are cores.
    os.environ["OMP_NUM_THREADS"] = "1"
    return DaskTaskRunner(
        cluster_kwargs={
            "n_workers": workers,
            "threads_per_worker": 1,
            "host": "127.0.0.1",
            "dashboard_address": None,
            # Any free port, as another cluster may have Dask's own.
            "scheduler_kwargs": {"dashboard_address": "127.0.0.1:0"},
        }
    )
