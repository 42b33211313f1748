"""Where MLflow keeps runs: the user's server, or a SQLite file of this clone."""

from __future__ import annotations

import os
from pathlib import Path

SQLITE = "sqlite:///"


def clone_folder(workspace: Path) -> Path:
    """The git clone around a workspace, so that all runs of a clone share one store."""
    workspace = workspace.resolve()
    for folder in (workspace, *workspace.parents):
        if (folder / ".git").exists():
            return folder
    return workspace


def store_uri(workspace: Path) -> str:
    """``MLFLOW_TRACKING_URI`` where it is set, else ``.assay/mlflow.db`` of the clone."""
    chosen = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    return chosen or f"{SQLITE}{clone_folder(workspace) / '.assay' / 'mlflow.db'}"


def is_server(uri: str) -> bool:
    """Whether runs go through a server rather than straight into a database.

    >>> is_server("http://127.0.0.1:5000"), is_server("sqlite:////tmp/mlflow.db")
    (True, False)
    """
    return uri.startswith(("http://", "https://"))


def sqlite_path(uri: str) -> Path | None:
    """File of a SQLite store, None for any other.

    >>> str(sqlite_path("sqlite:////data/mlflow.db"))
    '/data/mlflow.db'
    """
    return Path(uri.removeprefix(SQLITE)).resolve() if uri.startswith(SQLITE) else None


def artifact_root(uri: str) -> str | None:
    """Folder for artifacts beside a SQLite file; None where the server decides."""
    path = sqlite_path(uri)
    return (path.parent / "mlartifacts").as_uri() if path else None


def without_password(uri: str) -> str:
    """The address as it may be shown.

    >>> without_password("https://me:secret@mlflow.example.org/x")
    'https://mlflow.example.org/x'
    """
    scheme, separator, rest = uri.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"
