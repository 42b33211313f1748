"""``assay export``: a trained network as a file that needs torch alone."""

from __future__ import annotations

from pathlib import Path

from flows.recommend_command import open_desk

FORMATS = ("torch-export",)


def export(
    start: Path,
    run: str,
    model: str,
    seed: int | None,
    output: Path | None,
    kind: str,
    to_mlflow: bool,
) -> None:
    """Export a trained network and print where it is.

    Args:
        start: Where the user stands.
        run: Folder below ``runs/``; the project itself when empty.
        model: The model; the best by validation when empty.
        seed: Its seed; the best by validation when None.
        output: Folder to write to; ``artifacts/export/MODEL_seed_S`` of the run when None.
        kind: One of `FORMATS`.
        to_mlflow: Also log it to the model's MLflow run.

    Raises:
        ValueError: no such run, model or format, or the model is no network.
    """
    if kind not in FORMATS:
        raise ValueError(f"--format is {kind!r}; expected {' or '.join(FORMATS)}.")
    from tasks.serving.export import save_export

    desk = open_desk(start, run, model, seed, None)
    chosen = desk.workspace.chosen
    folder = output
    if folder is None:
        exports = chosen.folder.parents[2] / "export"
        folder = exports / f"{chosen.name}_seed_{chosen.seed}"
    if folder.is_file():
        raise ValueError(f"--output is {folder}, a file; expected a folder to write into.")
    path = save_export(desk.workspace.service, folder)
    print(f"{path} ({path.stat().st_size / 2**20:.1f} MiB)")
    if to_mlflow:
        from tasks import tracking

        tracking.log_export(chosen.folder.parents[3], chosen.name, chosen.seed, folder)
