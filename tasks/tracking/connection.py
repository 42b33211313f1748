"""Opens the store: a server, or a database that one process at a time creates or upgrades."""

from __future__ import annotations

import errno
import http
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tasks import quiet
from tasks.redaction import hide_secrets
from tasks.tracking import address

LOCK_SECONDS = 120.0
DISK_TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM}
"""What a disk says that can't be written now."""


class StoreAwayError(ConnectionError):
    """MLflow can't be reached, or can't write, now; records wait on disk.

    Attributes:
        may_pass: Whether it says itself that no record is at fault: its disk is full, its database
            is locked or read-only. Else a record it never accepts may be.
    """

    may_pass = False


class RefusedRecordError(ValueError):
    """MLflow will never accept this record."""


def configure() -> None:
    """Telemetry, progress bars and long retries off; set before MLflow is imported."""
    quiet.silence_telemetry()
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    logging.getLogger("alembic").setLevel(logging.WARNING)


def connect(uri: str) -> Any:
    """Return an MLflow client that has been answered once; errors are MLflow's own."""
    from mlflow import MlflowClient

    path = address.sqlite_path(uri)
    if path is None:
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
        return client
    path.parent.mkdir(parents=True, exist_ok=True)
    # Several processes migrating one fresh database at once all fail.
    with FileLock(f"{path}.lock", timeout=LOCK_SECONDS):
        return _open_database(uri, path)


@contextmanager
def locked(uri: str) -> Iterator[None]:
    """Hold a SQLite store for this process: many writers wait instead of failing as locked."""
    path = address.sqlite_path(uri)
    if path is None:
        yield
        return
    with translated(uri):
        lock = FileLock(f"{path}.lock", timeout=LOCK_SECONDS)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """Turn MLflow's errors into `StoreAwayError` or `RefusedRecordError`."""
    try:
        yield
    except (StoreAwayError, RefusedRecordError):
        raise
    except Exception as error:
        import requests
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        if isinstance(error, MlflowException) and error.get_http_status_code() in (400, 404):
            raise RefusedRecordError(str(error)) from error
        temporary = (MlflowException, SQLAlchemyError, requests.RequestException, OSError, Timeout)
        if isinstance(error, (*temporary, subprocess.CalledProcessError)):
            shown = address.without_password(uri)
            reason = hide_secrets(str(error))
            may_pass = _may_pass(error)
            what = "can't write now" if may_pass else "can't be reached"
            away = StoreAwayError(f"MLflow at {shown} {what}: {reason}")
            away.may_pass = may_pass
            raise away from error
        raise


def _may_pass(error: Exception) -> bool:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import OperationalError

    if isinstance(error, MlflowException):
        # What MLflow makes of a database that is full, locked or read-only.
        return error.get_http_status_code() == http.HTTPStatus.SERVICE_UNAVAILABLE
    is_locked = isinstance(error, OperationalError | Timeout)
    return is_locked or (isinstance(error, OSError) and error.errno in DISK_TROUBLE)


def _open_database(uri: str, path: Path) -> Any:
    """Open a SQLite store; one last used with another MLflow may be migrated, so it is copied."""
    import mlflow

    mark = Path(f"{path}.mlflow-version")
    known = mark.read_text(encoding="utf-8") if mark.exists() else ""
    version = _schema_version(path)
    copy = path.with_suffix(".before-upgrade.db")
    if not version:
        _create_database(path)
    elif known != mlflow.__version__:
        shutil.copyfile(path, copy)
    client = _migrated_client(uri)
    if version and known != mlflow.__version__ and _schema_version(path) == version:
        copy.unlink()
    if known != mlflow.__version__:
        mark.write_text(mlflow.__version__, encoding="utf-8")
    return client


def _create_database(path: Path) -> None:
    """Create a store in memory where that can be had, then move it into place whole.

    MLflow's migrations wait for the disk about a hundred times, which takes ten seconds on a slow
    one; and a process killed in the middle would leave a database that no other can open.
    """
    # A folder that tempfile makes in it is private.
    memory = Path("/dev/shm")  # noqa: S108 # nosec B108
    chosen = memory if memory.is_dir() and os.access(memory, os.W_OK) else None
    partial = Path(f"{path}.new")
    partial.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=chosen) as folder:
        _migrated_client(f"sqlite:///{folder}/mlflow.db")
        with closing(sqlite3.connect(f"{folder}/mlflow.db")) as database:
            database.execute("VACUUM INTO ?", (str(partial),))
    with closing(sqlite3.connect(partial)) as database:
        # Readers, such as the user interface, don't block a writer.
        database.execute("PRAGMA journal_mode=WAL")
    os.replace(partial, path)


def _migrated_client(uri: str) -> Any:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient(uri)
    try:
        client.search_experiments(max_results=1)
    except MlflowException as error:
        if "out-of-date database schema" not in str(error):
            raise
        command = [sys.executable, "-m", "mlflow", "db", "upgrade", uri]
        subprocess.run(command, check=True)  # noqa: S603 - our own arguments, no shell
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
    return client


def _schema_version(path: Path) -> str:
    """Migration a SQLite store is at; empty for a new one."""
    if not path.exists():
        return ""
    with closing(sqlite3.connect(path)) as database:
        try:
            row = database.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.OperationalError:
            return ""
    return str(row[0]) if row else ""
