"""The command ``assay``. Heavy libraries are imported where they are used: help is instant."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from flows import recommend_cli
from flows.data_cli import data_app
from flows.fault_cli import faults_app
from tasks import quiet

quiet.silence_telemetry()

app = typer.Typer(
    name="assay",
    help="Train sequential recommenders, compare them honestly, and find out what is wrong.",
    epilog="Exit codes: 0 done, 1 failed, 2 data or settings can't be used, 3 a check before "
    "training found a fault, 130 interrupted. With ASSAY_DEBUG=1 errors show their traceback.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data")
app.add_typer(faults_app, name="faults")
recommend_cli.register(app)

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a setting (repeatable)."),
]
ParamsFile = Annotated[
    Path | None, typer.Option("--params", help="Settings file to use instead of params.yaml.")
]
RunName = Annotated[str, typer.Option("--name", help="Name of the run's folder below runs/.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 and the number of the signal."""
RESUMABLE = (("run",), ("stage", "train"), ("tune",), ("faults", "run"))
"""Commands that find what an interrupted one of the same kind left."""
RunNames = Annotated[
    list[str] | None,
    typer.Argument(help="Names below runs/, or 'project'; all finished runs by default."),
]


@app.command()
def run(
    overrides: Overrides = None,
    params: ParamsFile = None,
    name: RunName = "",
    seeds: Annotated[
        int, typer.Option(min=0, help="Train with seeds 0 .. N-1; 0 takes experiment.seeds.")
    ] = 0,
    data: Annotated[
        str, typer.Option(help="A log file, or the name of a source such as 'synthetic'.")
    ] = "",
    user_column: Annotated[str, typer.Option(help="Column of the user (with --data).")] = "",
    item_column: Annotated[str, typer.Option(help="Column of the item (with --data).")] = "",
    time_column: Annotated[str, typer.Option(help="Column of the time (with --data).")] = "",
    no_dvc: Annotated[
        bool, typer.Option("--no-dvc", help="Run the stages directly, without DVC's versioning.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run the whole experiment; stages with nothing new to do are skipped.

    With --set, --params, --seeds or --data the run gets its own folder, and params.yaml stays.
    """
    from flows import launch

    shortcuts = launch.shortcut_overrides(seeds, data, user_column, item_column, time_column)
    launch.run_experiment(
        Path.cwd(),
        params=params,
        overrides=[*shortcuts, *(overrides or [])],
        name=name,
        use_dvc=not no_dvc,
        as_json=as_json,
    )


@app.command()
def stage(
    name: Annotated[
        str, typer.Argument(help="fetch, prepare, check, train, evaluate, diagnose, report")
    ],
    model: Annotated[str, typer.Option(help="Model to train (stage train).")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Seed to train with (stage train).")] = 0,
    as_json: Json = False,
) -> None:
    """Run one stage's code in the current folder, without DVC and Prefect."""
    from tasks.__main__ import STAGES, run_stage

    if name not in STAGES:
        raise ValueError(f"stage is {name!r}; expected one of {', '.join(STAGES)}.")
    if as_json:
        # Scripts read standard output: what the stage itself says goes beside it.
        with contextlib.redirect_stdout(sys.stderr):
            values = run_stage(name, Path.cwd(), model=model, seed=seed)
        typer.echo(json.dumps(values, default=str))
        return
    for key, value in run_stage(name, Path.cwd(), model=model, seed=seed).items():
        typer.echo(f"{key} = {value}")


@app.command()
def report(
    name: RunName = "",
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    as_json: Json = False,
) -> None:
    """Print where the report is, or open it."""
    from flows import launch

    launch.show_report(Path.cwd(), name, open_it, as_json)


@app.command()
def diagnose(
    name: RunName = "",
    model: Annotated[
        str, typer.Option(help="Your own model, package.module:build, instead of a run.")
    ] = "",
    num_items: Annotated[
        int, typer.Option(min=10, help="Items of the made-up log: as many as --model knows.")
    ] = 100,
    deep: Annotated[bool, typer.Option("--deep", help="Also train models to find out.")] = False,
    fail_on: Annotated[
        str,
        typer.Option(help="Exit with 1 at suspect, faulty or never; diagnose.fail_on by default."),
    ] = "",
    only: Annotated[
        list[str] | None, typer.Option(help="Ask only this question, G14 or its id (repeatable).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Answer the fifty questions from measured evidence: what is wrong, where, what to do next."""
    from flows import diagnose_command

    if fail_on not in ("", "never", "suspect", "faulty"):
        raise ValueError(f"--fail-on is {fail_on!r}; expected never, suspect or faulty.")
    if model:
        code = diagnose_command.diagnose_own(model, num_items, deep, fail_on, as_json, only or ())
    else:
        code = diagnose_command.diagnose_run(Path.cwd(), name, deep, fail_on, as_json, only or ())
    raise typer.Exit(code)


@app.command()
def tune(
    name: RunName = "",
    models: Annotated[
        list[str] | None,
        typer.Option("--model", help="A neural model (repeatable); the experiment's by default."),
    ] = None,
    trials: Annotated[
        int, typer.Option(min=1, help="Trials per model; the first is of its present settings.")
    ] = 20,
    workers: Annotated[int, typer.Option(min=1, help="Processes side by side.")] = 1,
    devices: Annotated[
        list[str] | None, typer.Option("--device", help="cpu, cuda:0, ... (repeatable).")
    ] = None,
    budget: Annotated[
        float, typer.Option(min=0, help="Seconds after which no new trial starts; 0 has no end.")
    ] = 0,
    cluster: Annotated[str, typer.Option(help="Dask cluster: local, or tcp://HOST:PORT.")] = "",
    save: Annotated[Path | None, typer.Option(help="Write the best settings to this file.")] = None,
    as_json: Json = False,
) -> None:
    """Search settings with Optuna, the same number of trials for every model; resumable."""
    from flows import tune_command

    tune_command.tune(
        Path.cwd(),
        name=name,
        models=models or (),
        trials=trials,
        workers=workers,
        devices=devices or (),
        budget=budget or float("inf"),
        cluster=cluster,
        save=save,
        as_json=as_json,
    )


@app.command()
def compare(runs: RunNames = None, as_json: Json = False) -> None:
    """Compare runs side by side: settings that differ, metrics, verdicts; also as a page."""
    from flows import compare_runs

    compare_runs.compare(Path.cwd(), runs or [], as_json)


@app.command()
def ui(
    tool: Annotated[str, typer.Argument(help="mlflow or prefect")] = "mlflow",
    port: Annotated[
        int,
        typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0: mlflow 5000, prefect 4200."),
    ] = 0,
) -> None:
    """Start the MLflow or Prefect user interface on this machine only."""
    from flows import launch

    launch.serve_ui(Path.cwd(), tool, port or {"mlflow": 5000}.get(tool, 4200))


@app.command()
def clean(
    keep: Annotated[int, typer.Option(min=1, help="Newest runs that stay.")],
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it only say what.")] = False,
    as_json: Json = False,
) -> None:
    """Remove what only old runs need: folders below runs/, MLflow runs, spool and DVC's cache."""
    from flows import clean as cleaning

    cleaning.clean(Path.cwd(), keep, yes, as_json)


def _interrupted(arguments: list[str]) -> str:
    """What to say after Ctrl-C: how to go on, for commands that can.

    >>> _interrupted(["run", "--name", "my run"])
    "Interrupted. What is done is kept; to go on from there: assay run --name 'my run'"
    >>> _interrupted(["data", "list"])
    'Interrupted.'
    """
    if not any(arguments[: len(words)] == list(words) for words in RESUMABLE):
        return "Interrupted."
    return f"Interrupted. What is done is kept; to go on from there: assay {shlex.join(arguments)}"


def _guarded(command: Callable[[], Any]) -> int:
    """Run ``command``; expected errors become one clear message instead of a traceback."""
    debug = bool(os.environ.get("ASSAY_DEBUG"))
    try:
        command()
    except (KeyboardInterrupt, SystemExit) as end:
        # Typer turns Ctrl-C into a silent exit with this code.
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:
            raise
        typer.echo(_interrupted(sys.argv[1:]), err=True)
        return INTERRUPTED
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        if debug:
            raise
        typer.echo(f"Error: {error}", err=True)
        return getattr(error, "exit_code", 2 if isinstance(error, ValueError) else 1)
    return 0


def main() -> None:
    """Entry point of the installed command. ASSAY_DEBUG=1 shows tracebacks.

    SIGTERM ends a command as Ctrl-C does: servers it started end too, and it says how to go on.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Ids may hold what a terminal's encoding does not.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(_guarded(app))


if __name__ == "__main__":
    main()
