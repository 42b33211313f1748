"""Starts the experiment flow from a command line, whether or not Prefect's server is up."""

from __future__ import annotations

import logging
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from flows import prefect_environment
from flows.dag import read_dag, unchanged_stages
from flows.reproduce import ExperimentResult

HEALTH_SECONDS = 5.0
logger = logging.getLogger("assay.flows")


def run_experiment(
    workspace: Path,
    *,
    use_dvc: bool = True,
    settings_hash: str = "",
    display: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> ExperimentResult:
    """Run the experiment flow in this process; return at once where no stage has anything to do.

    With a Prefect server configured (``PREFECT_API_URL``) the run shows there; when none is, or it
    does not answer, a temporary one is started.

    Args:
        workspace: Folder with ``dvc.yaml`` and ``params.yaml``.
        use_dvc: Through DVC, or run all stages directly.
        settings_hash: What the settings have to be, see `flows.experiment.experiment`.
        display: Entered around the flow, once Prefect has set up its own logging.

    Raises:
        ExperimentFailedError: a stage failed.
        PrefectAwayError: the server went while the run was working, and stayed away.
        WorkspaceBusyError: another experiment runs in the workspace.
    """
    if use_dvc:
        dag = read_dag(workspace)
        if len(unchanged_stages(dag)) == len(dag):
            # Seconds for a server that would have nothing to show.
            return ExperimentResult(str(workspace), {stage.name: "unchanged" for stage in dag})
    prefect_environment.prepare()
    from flows.experiment import experiment

    with display(), server_that_answers(), _named_when_away():
        return experiment(workspace=str(workspace), use_dvc=use_dvc, settings_hash=settings_hash)


@contextmanager
def _named_when_away() -> Iterator[None]:
    """Say in one message that the server went and stayed away, which Prefect tried for a minute."""
    import httpx
    from prefect.settings import PREFECT_API_URL

    from flows.run_logs import PrefectAwayError

    try:
        yield
    except httpx.TransportError as error:
        raise PrefectAwayError(str(PREFECT_API_URL.value()), error) from error


@contextmanager
def server_that_answers() -> Iterator[None]:
    """Keep a Prefect server at hand: the one that is configured, or a temporary one."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    url = PREFECT_API_URL.value()
    if url and answers(url):
        yield
        return
    if not url:
        _start_temporary_server()
        yield
        return
    logger.warning(
        "The Prefect server at %s does not answer; the run goes on with a temporary one. "
        "Start yours with `prefect server start`, or unset PREFECT_API_URL.",
        url,
    )
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        _start_temporary_server()
        yield


def _start_temporary_server() -> None:
    """Start the server Prefect would start itself, deaf to Ctrl-C.

    A terminal sends Ctrl-C to all its processes. The server has to outlive it, as the run it
    interrupts is recorded there; Prefect ends the server when this process ends. A blocked signal
    stays blocked in a new process, whatever handler that installs.
    """
    from prefect.server.api.server import SubprocessASGIServer

    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        SubprocessASGIServer().start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def answers(url: str) -> bool:
    """Whether a Prefect API is there.

    Args:
        url: Its address, ending in ``/api``.
    """
    if not url.startswith(("http://", "https://")):
        return False
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=HEALTH_SECONDS) as reply:  # noqa: S310 # nosec B310
            return bool(reply.status == 200)
    except urllib.error.HTTPError as error:
        # A server behind a login is there.
        return error.code in (401, 403)
    except (OSError, ValueError):
        return False
