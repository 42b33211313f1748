"""Options of ``assay recommend`` and ``assay export``; what they do is imported when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

User = Annotated[
    list[str] | None, typer.Option("--user", help="A user of the prepared data (repeatable).")
]
History = Annotated[
    str | None, typer.Option("--history", metavar="A,B,C", help="Items, oldest first.")
]
Times = Annotated[
    str, typer.Option(help="Times of --history: seconds since 1970 or ISO 8601, comma-separated.")
]
Batch = Annotated[
    Path | None, typer.Option("--batch", help="CSV or JSON lines of users or histories.")
]
Output = Annotated[
    Path | None, typer.Option("--output", help="Write .csv or .jsonl instead of printing.")
]
Model = Annotated[
    str, typer.Option("--model", help="A trained model; by default the best by validation.")
]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of the model; by default the best.")]
Run = Annotated[str, typer.Option("--run", help="Name of the run's folder below runs/.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def recommend(
    user: User = None,
    history: History = None,
    times: Times = "",
    batch: Batch = None,
    output: Output = None,
    top: Annotated[
        int, typer.Option(min=0, max=100_000, help="Items per answer; 0: recommend.top_k.")
    ] = 0,
    exclude_seen: Annotated[
        bool | None,
        typer.Option("--exclude-seen/--include-seen", help="Leave out items of the history."),
    ] = None,
    model: Model = "",
    seed: Seed = None,
    run: Run = "",
    items: Annotated[
        Path | None, typer.Option("--items", help="CSV id,name: show and accept names.")
    ] = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", help="Read lines user,item[,time] from stdin, answer each."),
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show which events moved the first item.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Recommend items with a trained model: for users, a history, a file, or a stream of events."""
    from flows import recommend_command

    asked = [bool(user), history is not None, batch is not None, follow]
    if sum(asked) != 1:
        raise ValueError(
            "expected one of --user ID, --history A,B,C, --batch FILE and --follow; "
            f"got {sum(asked)} of them."
        )
    if times and history is None:
        raise ValueError("--times goes with --history; users and files have times of their own.")
    if explain and (follow or batch or output):
        raise ValueError("--explain prints, for --user or --history; expected one of those.")
    desk = recommend_command.open_desk(
        Path.cwd(), run, model, seed, items, top_k=top, exclude_seen=exclude_seen
    )
    if follow:
        from flows.follow_command import follow as follow_events

        raise typer.Exit(follow_events(desk, as_json))
    if batch is not None:
        recommend_command.answer_file(desk, batch, output, as_json)
    elif explain:
        from flows.explain_command import explain as explain_answers

        explain_answers(desk, user or [], history, times, as_json)
    else:
        recommend_command.answer(desk, user or [], history, times, output, as_json)


def export(
    model: Model = "",
    seed: Seed = None,
    run: Run = "",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", help="Folder to write to; by default artifacts/export/MODEL_seed_S."
        ),
    ] = None,
    kind: Annotated[str, typer.Option("--format", help="Only torch-export.")] = "torch-export",
    to_mlflow: Annotated[
        bool, typer.Option("--mlflow", help="Also log it to the model's MLflow run.")
    ] = False,
) -> None:
    """Write a trained network as a file that scores histories with torch alone."""
    from flows import export_command

    export_command.export(Path.cwd(), run, model, seed, output, kind, to_mlflow)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(recommend)
    app.command()(export)
