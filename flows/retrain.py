"""The nightly flow: train on the log as it is now, and let a better model become champion."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact

from flows.experiment import experiment
from tasks import tracking
from tasks.settings import load_settings


@flow(name="retrain", flow_run_name="retrain {name}")
def retrain(
    workspace: str = ".",
    overrides: list[str] | None = None,
    name: str = "nightly",
    stage_timeout_minutes: float = 240.0,
) -> dict[str, str]:
    """Run the experiment in a folder of its own and say whether the champion changed.

    Stages whose inputs are the same as last night are skipped. A log that is not that of last
    night, grown, is refused before anything is trained (settings ``retrain``). The alias
    ``champion`` in the MLflow registry moves only to a model that is significantly better on the
    newest test data.

    Args:
        workspace: The clone.
        overrides: ``section.key=value`` texts, for example ``data.path=/logs/today.csv``.
        name: Folder below ``runs/``.
        stage_timeout_minutes: A stage is ended after this time.

    Returns:
        ``workspace``, ``champion`` (model and version) and ``decision`` in words.
    """
    result = experiment(
        workspace=workspace,
        overrides=overrides,
        name=name,
        stage_timeout_minutes=stage_timeout_minutes,
        watch_growth=True,
    )
    folder = Path(result.workspace)
    settings = load_settings(folder / "params.yaml")
    champion = tracking.read_champion(folder, settings.experiment.name)
    if champion is None:
        decision = "No model is registered: tracking is off, or MLflow was away."
        named = "none"
    else:
        decision = champion.decision
        named = f"{champion.model}, version {champion.version}"
    get_run_logger().info("Champion: %s. %s", named, decision)
    create_markdown_artifact(f"**Champion:** {named}\n\n{decision}", key="champion")
    return {"workspace": result.workspace, "champion": named, "decision": decision}
