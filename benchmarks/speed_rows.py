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
        *_watching_rows(kept.read("watching")),
        *_startup_rows(kept.read("startup")),
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
        ("the same on a GPU", MISSING, "≤ 0.2 s", ""),
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

    never = (
        ("training step beside SASRec on a GPU", "≤ 1.2 ×", "`python -m benchmarks.gpu_training`"),
        ("ML-1M to convergence on a GPU", "< 2 min", ""),
        ("ML-100K end to end beside RecBole", "≥ 5 × faster", ""),
    )
    return [
        ("`assay --help`", _found(text), "≤ 0.5 s", f"`{STARTUP}`"),
        *((title, MISSING, aim, command) for title, aim, command in never),
    ]
