"""``assay tune``: search settings for the neural models, each with the same number of trials."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.workspace import find_project, run_folder
from tasks.lock import hold
from tasks.settings import Settings, SettingsError, load_settings, settings_from_dict, write_params
from tasks.tracking import trials as tracked

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from tasks.tracking.run import RunLog
    from tasks.tuning.study import Search

STORAGE = Path(".assay") / "tuning" / "journal.log"
LOCK = "search.lock"


def tune(
    start: Path,
    *,
    name: str = "",
    models: Sequence[str] = (),
    trials: int = 20,
    workers: int = 1,
    devices: Sequence[str] = (),
    budget: float = float("inf"),
    cluster: str = "",
    save: Path | None = None,
    as_json: bool = False,
) -> dict[str, Any]:
    """Run or go on with a search, print the best settings and write them where asked.

    Args:
        start: Where the user stands.
        name: Run below ``runs/`` whose settings and data are the base; the project when empty.
        models: Neural models; by default those of the experiment.
        trials: Trials per model.
        workers: Processes side by side.
        devices: Devices dealt out to them; the setting ``train.shared.device`` by default.
        budget: Seconds after which no new trial starts.
        cluster: Where the trials run, see `flows.cluster.spread`; processes here when empty.
        save: Settings file to write the best settings to.
        as_json: Print JSON.

    Raises:
        SettingsError: nothing is prepared yet, no model can be tuned, or a device or the folder of
            ``save`` is not there.
        WorkspaceBusyError: another search runs in the folder.
    """
    folder = _prepared_folder(start, name)
    _check_devices(devices)
    if save is not None and not save.absolute().parent.is_dir():
        raise SettingsError(f"--save is {save}; its folder does not exist. Create it first.")
    settings = load_settings(folder / "params.yaml")
    search = make_search(settings, folder / "data" / "prepared", folder / STORAGE, models, trials)
    from tasks.tuning.study import best_section

    busy = f"another search runs in {folder}. Wait for it to end, or give more --workers to one."
    with hold((folder / STORAGE).with_name(LOCK), busy):
        counts = _searched(settings, folder, search, workers, devices, budget, cluster, as_json)
    found = {model: best_section(search, model) for model in search.models}
    if save is not None:
        write_params(with_sections(settings, {m: s for m, (s, _) in found.items()}), save)
    result = {
        model: {"trials": counts[model], "val/ndcg_at_10": value, "settings": section}
        for model, (section, value) in found.items()
    }
    print(json.dumps(result, indent=1) if as_json else summary(result, save))
    return result


def _searched(
    settings: Settings,
    folder: Path,
    search: Search,
    workers: int,
    devices: Sequence[str],
    budget: float,
    cluster: str,
    as_json: bool,
) -> dict[str, int]:
    """Run what is missing of a search, telling the terminal and MLflow of every trial."""
    from tasks.tuning.study import run_search

    parent = tracked.begin_search(settings, folder) if settings.tracking.enabled else None
    counts = run_search(
        search,
        workers=workers,
        devices=devices or (settings.train.shared.device,),
        budget=budget,
        on_trial=_reporter(settings, parent, is_quiet=as_json),
        spread=_spread_over(cluster, workers),
    )
    if parent is not None:
        tracked.end_search(parent)
    return counts


def _reporter(
    settings: Settings, parent: RunLog | None, *, is_quiet: bool
) -> Callable[[str, FrozenTrial], None]:
    """What is told of every trial that ends: a line for the terminal, and a run of MLflow."""

    def tell(model: str, trial: FrozenTrial) -> None:
        if not is_quiet:
            print(describe(model, trial), flush=True)
        if parent is not None:
            log_trial(settings, parent, model, trial)

    return tell


def _spread_over(cluster: str, workers: int) -> Callable[..., int] | None:
    if not cluster:
        return None
    from flows.cluster import spread

    return partial(spread, name="tune", cluster=cluster, workers=workers)


def _check_devices(devices: Sequence[str]) -> None:
    """Refuse devices that are none, or not here, before any process is started on one.

    Raises:
        SettingsError: one of them can't be used.
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    known = ["auto", "cpu", *(["cuda"] if count else []), *(f"cuda:{n}" for n in range(count))]
    for device in devices:
        if device not in known:
            raise SettingsError(f"--device is {device!r}; expected one of {', '.join(known)}.")


def _prepared_folder(start: Path, name: str) -> Path:
    """The run's folder, or the project's, with prepared data in it."""
    project = find_project(start)
    folder = run_folder(project, name) if name else project
    if not (folder / "data" / "prepared" / "manifest.json").is_file():
        raise SettingsError(
            f"{folder} holds no prepared data; run the experiment first: assay run."
        )
    return folder


def make_search(
    settings: Settings, data: Path, storage: Path, models: Sequence[str], trials: int
) -> Search:
    """Return the search of these settings.

    Raises:
        SettingsError: no model of the experiment can be tuned.
    """
    from tasks.tuning.space import tunable
    from tasks.tuning.study import Search

    chosen = tuple(models) or tuple(m for m in settings.experiment.models if m in tunable())
    if not chosen:
        raise SettingsError(
            "experiment.models has no model to tune; name some of "
            f"{', '.join(tunable())} with --model."
        )
    shared = settings.train.shared.model_dump()
    sections = {m: getattr(settings.train, m).model_dump() for m in tunable()}
    return Search(data, storage, chosen, trials, shared, sections)


def with_sections(settings: Settings, sections: dict[str, dict[str, Any]]) -> Settings:
    """Return settings with these sections of ``train``."""
    values = settings.model_dump(mode="json")
    values["train"].update(sections)
    return settings_from_dict(values, "tuned settings")


def describe(model: str, trial: FrozenTrial) -> str:
    """One line about a trial that ended."""
    drawn = ", ".join(f"{name}={value}" for name, value in sorted(trial.params.items()))
    epochs, seconds = trial.user_attrs.get("epochs", 0), trial.user_attrs.get("seconds", 0.0)
    result = f"{trial.value:.4f}" if trial.value is not None else trial.state.name.lower()
    return f"{model} {trial.number}: {result} after {epochs} epochs, {seconds:.0f} s ({drawn})"


def log_trial(settings: Settings, parent: RunLog, model: str, trial: FrozenTrial) -> None:
    """Log a trial that ended to MLflow."""
    best = max(trial.intermediate_values.values(), default=float("nan"))
    metrics = {"best/val/ndcg_at_10": best} if best == best else {}
    if "num_parameters" in trial.user_attrs:
        metrics["num_parameters"] = float(trial.user_attrs["num_parameters"])
    tracked.log_trial(
        settings,
        parent,
        model=model,
        number=trial.number,
        params=trial.params,
        values=sorted(trial.intermediate_values.items()),
        outcome=trial.state.name.lower(),
        metrics=metrics,
    )


def summary(result: dict[str, Any], save: Path | None) -> str:
    """The best settings in words."""
    lines = []
    for model, found in result.items():
        lines.append(
            f"{model}: best validation NDCG@10 {found['val/ndcg_at_10']:.4f} "
            f"of {found['trials']} trials"
        )
    if save is not None:
        lines.append(f"written to {save}; try it: assay run --params {save}")
    return "\n".join(lines)
