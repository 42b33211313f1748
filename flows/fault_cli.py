"""The commands ``assay faults ...``. Heavy libraries are imported where they are used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

faults_app = typer.Typer(
    no_args_is_help=True, help="Plant faults, run the diagnosis on them, and score it."
)

Only = Annotated[
    list[str] | None, typer.Option("--only", metavar="ID", help="A fault or variant (repeatable).")
]
Own = Annotated[
    Path | None, typer.Option("--faults", metavar="FILE", help="A file of faults of your own.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Scoring = Annotated[
    bool, typer.Option("--scoring", help="Use the scoring seeds, which nothing was tuned on.")
]


@faults_app.command("list")
def list_faults(
    faults: Own = None,
    as_json: Json = False,
) -> None:
    """List faults and healthy variants with their labels."""
    from flows import fault_commands

    fault_commands.list_faults(faults, as_json)


@faults_app.command("run")
def run_faults(
    only: Only = None,
    seeds: Annotated[int, typer.Option(min=1, max=3, help="Seeds to run, 1 to 3.")] = 3,
    scoring: Scoring = False,
    data: Annotated[
        list[str] | None,
        typer.Option(help="'synthetic' or the path of a log (repeatable)."),
    ] = None,
    models: Annotated[
        list[str] | None, typer.Option("--model", help="A model (repeatable).")
    ] = None,
    healthy: Annotated[
        bool, typer.Option("--healthy/--no-healthy", help="Run healthy variants too.")
    ] = True,
    planted: Annotated[
        bool, typer.Option("--planted/--no-planted", help="Run programs with planted faults.")
    ] = True,
    effort: Annotated[
        str,
        typer.Option(help="Diagnose healthy variants in this mode: exact, after_training, deep."),
    ] = "",
    sample: Annotated[
        int, typer.Option(min=0, help="Run so many healthy variants, drawn evenly; 0 runs all.")
    ] = 0,
    faults: Own = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes side by side.")] = 1,
    budget: Annotated[
        float, typer.Option(min=0, help="Seconds after which nothing new is started; 0 has no end.")
    ] = 0,
    cluster: Annotated[
        str, typer.Option(help="Run on a Dask cluster: 'local' or tcp://HOST:PORT.")
    ] = "",
) -> None:
    """Run faults and healthy variants; results that are there already are kept.

    Interrupt it at any time: the same command goes on where it stopped.
    """
    from flows import fault_commands

    fault_commands.run_faults(
        Path.cwd(),
        only=only or (),
        seeds=seeds,
        scoring=scoring,
        data=data or ("synthetic",),
        models=models or (),
        planted=planted,
        healthy=healthy,
        effort=effort,
        sample=sample,
        own=faults,
        workers=workers,
        budget=budget or float("inf"),
        cluster=cluster,
    )


@faults_app.command("kill")
def kill(
    only: Only = None,
    model: Annotated[str, typer.Option(help="Model faults are planted in.")] = "gru",
    data: Annotated[str, typer.Option(help="'synthetic' or the path of a log.")] = "synthetic",
    again: Annotated[bool, typer.Option(help="Test faults that were tested before too.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes side by side.")] = 1,
) -> None:
    """Test which faults change anything at all, and keep the answer in the repository."""
    from flows import fault_commands

    fault_commands.run_kill_tests(
        Path.cwd(), only=only or (), model=model, data=data, again=again, workers=workers
    )


@faults_app.command("freeze")
def freeze() -> None:
    """Write down the labels, before anything is scored."""
    from flows import fault_commands

    fault_commands.freeze_labels(Path.cwd())


@faults_app.command("score")
def score(
    scoring: Scoring = False,
    any_code: Annotated[
        bool, typer.Option("--any-code", help="Take results of older code too.")
    ] = False,
    kept: Annotated[
        bool, typer.Option("--kept", help="Score the results kept in the repository.")
    ] = False,
    faults: Own = None,
    as_json: Json = False,
) -> None:
    """Score the results and write docs/fault_benchmark.md."""
    from flows import fault_commands

    fault_commands.score_faults(
        Path.cwd(), scoring=scoring, any_code=any_code, kept=kept, own=faults, as_json=as_json
    )
