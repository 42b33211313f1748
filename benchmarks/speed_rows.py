"""Rows of docs/speed.md on whole stages and commands, from kept numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks import kept

Row = tuple[str, str, str, str]
MISSING = "not measured for this page"
PREPARE = "python -m benchmarks.prepare"
EVALUATION = "python -m benchmarks.evaluation"
SERVING = "python -m benchmarks.serving"
ORCHESTRATION = "python -m benchmarks.orchestration"
WATCHING = "python -m benchmarks.watching"
STEPS = "python -m benchmarks.gpu_training"
CONVERGENCE = "python -m benchmarks.gpu_convergence"
RECBOLE = "python -m benchmarks.beside_recbole"
STARTUP = "python -m benchmarks.startup"


def whole_rows() -> list[Row]:
    """Work, measured, aim and command of every row.

    >>> {len(row) for row in whole_rows()}
    {4}
    """
    return [
        *_prepare_rows(kept.read("prepare")),
        *_evaluation_rows(kept.read("evaluation")),
        *_serving_rows(kept.read("serving")),
        *_orchestration_rows(kept.read("orchestration")),
        *_tracking_rows(kept.read("orchestration"), kept.read("watching")),
        *_watching_rows(kept.read("watching")),
        *_startup_rows(kept.read("startup")),
        *_gpu_rows(),
        *_recbole_rows(kept.read("recbole")),
    ]


def _found(text: Callable[[], str]) -> str:
    """What is said of numbers, or that they were not kept."""
    try:
        return text()
    except KeyError:
        return MISSING


def _prepare_rows(kept_rows: dict[str, Any]) -> list[Row]:
    rows = []
    for events, name, aim in (
        (1_000_000, "1 M events", "≤ 5 s"),
        (20_000_000, "20 M events", "≤ 120 s, 8 GiB"),
    ):

        def text(events: int = events) -> str:
            row = kept_rows[f"{events} leave_one_out"]
            wall = row["read_seconds"] + row["prepare_seconds"]
            return (
                f"{wall:.1f} s ({row['cpu_seconds']:.1f} s CPU), {row['peak_memory_gib']:.1f} GiB"
            )

        rows.append(
            (f"read and prepare {name}", _found(text), aim, f"`{PREPARE} --events {events}`")
        )
    return rows


def _evaluation_rows(row: dict[str, Any]) -> list[Row]:
    def small() -> str:
        alone, model = row["ml1m"]["ranking_alone"], row["ml1m"]["xlstm"]
        return f"{alone['cpu_seconds']} s CPU, {model['cpu_seconds']} s with the xLSTM's scores"

    def large() -> str:
        found = row["large"]
        hours = found["cpu_hours_for_100000_users"]
        return f"{found['peak_memory_gib']} GiB peak; {hours} h CPU (extrapolated)"

    return [
        ("full ranking, 6,040 users × 3,417 items, CPU", _found(small), "≤ 3 s", f"`{EVALUATION}`"),
        (
            "the same on a GPU, with the xLSTM's scores",
            _found(_ranked),
            "≤ 0.2 s",
            f"`{CONVERGENCE}`",
        ),
        (
            "100 k users × 500 k items",
            _found(large),
            "never the full matrix (186 GiB)",
            f"`{EVALUATION}`",
        ),
    ]


def _serving_rows(row: dict[str, Any]) -> list[Row]:
    def latency() -> str:
        model = row["xlstm"]
        return f"p99 {model['wall_p99_ms']} ms ({model['cpu_p99_ms']} ms CPU)"

    return [
        ("one event in, top 10 of 100 k items out", _found(latency), "p99 ≤ 5 ms", f"`{SERVING}`"),
        (
            "10 k user states, D 64",
            _found(lambda: f"{row['xlstm']['states_mib']:.0f} MiB"),
            "≤ 1 GiB",
            f"`{SERVING}`",
        ),
    ]


def _orchestration_rows(kept_rows: dict[str, Any]) -> list[Row]:
    def text(name: str) -> Callable[[], str]:
        return lambda: (
            f"{kept_rows[name]['seconds']:.1f} s ({kept_rows[name]['cpu_seconds']:.1f} s CPU)"
        )

    wanted = (
        ("a stage with nothing to do", "a stage through DVC, nothing to do", "≤ 3 s"),
        ("a stage that runs", "a stage through DVC", "≤ 5 s"),
        (
            "a flow of 7 stages with its server",
            "flow, first start of the temporary server, 7 stages",
            "≤ 20 s + 5 s each",
        ),
    )
    return [
        (f"orchestration: {title}", _found(text(name)), aim, f"`{ORCHESTRATION}`")
        for title, name, aim in wanted
    ]


def _tracking_rows(orchestration: dict[str, Any], watching: dict[str, Any]) -> list[Row]:
    """What a training writes down, and its delivery to MLflow, which waits for no training."""

    def logging() -> str:
        seconds = orchestration["log 60 epochs, 300 steps of 17 numbers"]["seconds"]
        training = watching["training_seconds_alone"]
        return f"{seconds:.2f} s; {seconds / training:.1%} of a training of {training:.0f} s"

    def delivery() -> str:
        first = orchestration["first delivery: import MLflow, create its database"]["seconds"]
        return f"{orchestration['second delivery']['seconds']:.1f} s, {first:.1f} s the first time"

    command = f"`{ORCHESTRATION}`"
    return [
        (
            "tracking: records of 60 epochs and 300 steps",
            _found(logging),
            "≤ 2 % of training",
            command,
        ),
        ("tracking: their delivery to MLflow, beside a flow", _found(delivery), "", command),
    ]


def _watching_rows(row: dict[str, Any]) -> list[Row]:
    return [
        (
            "exact checks and recorder, per training",
            _found(lambda: f"{row['checks_and_recorder_share']:.1%}"),
            "≤ 15 %",
            f"`{WATCHING}`",
        )
    ]


def _startup_rows(row: dict[str, Any]) -> list[Row]:
    def text() -> str:
        found, empty = row["assay_help"], row["python"]
        return f"{found['cpu_seconds']} s CPU (an empty Python {empty['cpu_seconds']} s)"

    return [("`assay --help`", _found(text), "≤ 0.5 s", f"`{STARTUP}`")]


def _ranked() -> str:
    row = kept.read("gpu_convergence")["xlstm"]
    return f"{row['evaluation_seconds']} s, {row['users']} users × {row['items']} items"


def _gpu_rows() -> list[Row]:
    def step() -> str:
        rows = kept.read("gpu_training")
        ours, theirs = rows["xlstm sm"], rows["sasrec"]
        return (
            f"{ours['loop'] / theirs['loop']:.2f} × ({ours['loop']:.2f} ms, "
            f"SASRec {theirs['loop']:.2f} ms; replays {ours['graph'] / theirs['graph']:.2f} ×)"
        )

    def busy() -> str:
        rows = kept.read("gpu_training")
        return f"{rows['xlstm sm']['busy']:.0%}, SASRec {rows['sasrec']['busy']:.0%}"

    def convergence() -> str:
        rows = kept.read("gpu_convergence")
        row, alone = rows["xlstm"], rows["xlstm without recorder"]
        return (
            f"{row['seconds']:.0f} s, {row['epochs']} epochs, validation NDCG@10 "
            f"{row['val_ndcg_at_10']} ({alone['seconds']:.0f} s without the recorder)"
        )

    return [
        ("training step beside SASRec on a GPU", _found(step), "≤ 1.2 ×", f"`{STEPS}`"),
        ("share of time the GPU is busy in it", _found(busy), "≥ 90 %", f"`{STEPS}`"),
        ("ML-1M to convergence on a GPU", _found(convergence), "< 2 min", f"`{CONVERGENCE}`"),
    ]


def _recbole_rows(parts: dict[str, Any]) -> list[Row]:
    def text() -> str:
        ours = parts["ours"]
        models = ours["models"]
        theirs = [parts["GRU4Rec"], parts["SASRec"]]
        times = sum(row["cpu_seconds"] for row in theirs) / ours["cpu_seconds"]
        best = ", ".join(f"{row['model']} {row['best_val_ndcg_at_10']:.3f}" for row in theirs)
        own = ", ".join(
            f"{name} {models[name]['val_ndcg_at_10']:.3f}" for name in ("gru", "sasrec")
        )
        return (
            f"all of ours {ours['cpu_seconds']:.0f} s CPU (validation NDCG@10: {own}); after "
            f"{times:.1f} × as long RecBole is at {best}"
        )

    return [
        ("ML-100K end to end beside RecBole", _found(text), "≥ 5 × faster", f"`{RECBOLE}`"),
    ]
