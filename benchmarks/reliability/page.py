"""Writes docs/reliability.md from what the harnesses measured and from the tables of the tests.

python -m benchmarks.reliability.page
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = Path("docs") / "reliability.md"
RESULTS = Path("docs") / "reliability"
SURVIVED = (
    ("MLflow away at the start", "tests/tracking/test_delivery.py",
     "test_a_training_survives_a_server_that_is_away"),
    ("MLflow away in the middle and at the end", "tests/tracking/test_delivery.py",
     "test_a_server_that_goes_in_the_middle_gets_the_rest_later"),
    ("MLflow refuses a record", "tests/tracking/test_delivery.py",
     "test_what_mlflow_refuses_holds_up_nothing"),
    ("eight processes write to one new SQLite store", "tests/tracking/test_delivery.py",
     "test_eight_processes_share_a_store_that_does_not_exist_yet"),
    ("a delivery killed before it was noted", "tests/tracking/test_delivery.py",
     "test_delivering_again_changes_nothing"),
    ("clock set back", "tests/tracking/test_delivery.py",
     "test_a_clock_that_is_set_back_mixes_nothing_up"),
    ("a power cut takes tracking state or the end of a journal", "tests/tracking/test_resume.py",
     "test_a_power_cut_costs_neither_run_nor_points"),
    ("an experiment killed in the middle of a training goes on, in the same MLflow run",
     "tests/flows/test_killed_project.py",
     "test_a_killed_run_goes_on_to_what_an_unbroken_one_leaves"),
    ("a flow killed under other settings or data is not continued", "tests/tracking/test_resume.py",
     "test_a_killed_flow_under_other_settings_or_data_is_not_continued"),
    ("`dvc repro` and the flow killed again and again", "tests/flows/test_killed_commands.py",
     "test_killed_again_and_again_it_comes_to_its_end"),
    ("Prefect's server away at the start", "tests/flows/test_experiment.py",
     "test_a_server_that_does_not_answer_is_replaced"),
    ("Prefect's server killed and started again while a run works",
     "tests/flows/test_server_restart.py",
     "test_a_server_that_is_started_again_costs_a_run_nothing"),
    ("Prefect's server gone for good while a run works", "tests/flows/test_server_restart.py",
     "test_without_the_server_a_run_says_so_and_the_next_goes_on"),
    ("two experiments at once in one clone", "tests/flows/test_experiment.py",
     "test_two_experiments_never_share_a_workspace"),
    ("the starter of a command is killed", "tests/flows/test_process.py",
     "test_when_the_starter_is_killed_the_command_ends_too"),
    ("disk full, in each stage", "tests/reliability/test_disk.py",
     "test_a_full_disk_is_said_and_costs_nothing"),
    ("folders that can't be written, in each stage", "tests/reliability/test_disk.py",
     "test_a_folder_that_can_not_be_written_is_said"),
    ("damaged log, manifest, array, model, record", "tests/reliability/test_damage.py",
     "test_damage_is_named_and_mended"),
    ("damaged checkpoint", "tests/training/test_checkpoint.py",
     "test_damage_to_the_newest_falls_back_to_the_one_before"),
    ("damaged download in the cache", "tests/data/test_fetch.py", "test_damaged_cache_is_replaced"),
    ("the GPU runs out of memory", "tests/reliability/test_training_faults.py",
     "test_a_gpu_without_memory_names_the_setting_to_lower"),
    ("NaN in weights or gradients", "tests/reliability/test_training_faults.py",
     "test_nan_while_training_is_said_with_step_and_advice"),
    ("NaN in the log", "tests/data/readers/test_broken_values.py", "test_broken_values"),
    ("SIGTERM to a stage", "tests/test_main.py", "test_sigterm_ends_a_stage_with_a_message"),
    ("SIGTERM or Ctrl-C to a run leaves nothing running", "tests/flows/test_interrupt.py",
     "test_an_ended_run_leaves_nothing_running_and_goes_on"),
    ("SIGTERM or Ctrl-C while training leaves a checkpoint", "tests/training/test_train_stage.py",
     "test_a_signal_leaves_a_checkpoint_and_a_message"),
    ("disk full in check, diagnose and report", "tests/reliability/test_disk.py",
     "test_a_full_disk_in_a_later_stage_too"),
    ("a search for settings killed in the middle", "tests/tuning/test_study.py",
     "test_trial_a_killed_search_left_running_is_begun_anew"),
    ("a nightly log that was cut short is refused before training",
     "tests/flows/test_growth_check.py", "test_log_cut_short_is_refused_before_training"),
    ("a model that is not better is never promoted", "tests/tracking/test_champion.py",
     "test_a_worse_or_equal_model_does_not"),
)  # fmt: skip
"""Fault, file and test that plants it."""

DISTRIBUTED = ("distributed_gloo", "distributed")
"""Results of several processes: on CPUs and on GPUs."""


def render(results: Path) -> str:
    """The page.

    Args:
        results: Folder with the JSON files of the harnesses; what is missing is said.
    """
    parts = [
        "# Reliability",
        "",
        "Made by `python -m benchmarks.reliability.page`.",
        "",
        *_kills(_read(results / "kills.json")),
        *_survived(),
        *_bad_input(),
        *_soak(_read(results / "soak.json")),
        *_large_log(_read(results / "large_log.json")),
        *_processes([_read(results / f"{name}.json") for name in DISTRIBUTED]),
    ]
    return "\n".join(parts) + "\n"


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _kills(found: dict[str, Any]) -> list[str]:
    lines = [
        "## Kills",
        "",
        "`python -m benchmarks.reliability.kills` runs each stage of a tiny experiment in a fork, "
        "kills it at a random moment, lets it run again and compares all outputs, MLflow journals "
        "and, for the delivery, the MLflow database with an unbroken run: byte for byte, times "
        "apart. A power cut is a SIGKILL after which the file written last loses its end. In half "
        "of the cases the outputs are deleted before the second run, as DVC does.",
        "",
    ]
    if not found:
        return [*lines, "Not run yet.", ""]
    lines += [
        "| Stage | Unbroken | Kills | SIGKILL | SIGTERM | Power cut | a file cut | Differ |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found["stages"]:
        modes = row["by_mode"]
        counts = [modes.get(mode, 0) for mode in ("SIGKILL", "SIGTERM", "power cut")]
        cells = [row["stage"], f"{row['seconds']:.2f} s", row["kills"], *counts]
        cells += [sum(row["truncated"].values()), len(row["failures"])]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    total = sum(row["kills"] for row in found["stages"])
    failed = sum(len(row["failures"]) for row in found["stages"])
    return [*lines, "", f"{total} kills, {failed} with a difference.", ""]


def _survived() -> list[str]:
    rows = [f"| {fault} | `{file}::{test}` |" for fault, file, test in SURVIVED]
    return ["## Faults survived", "", "| Fault | Test |", "|---|---|", *rows, ""]


def _bad_input() -> list[str]:
    from tests.bad_input import test_arguments, test_logs, test_settings

    counts = {
        "logs": len(test_logs.LOGS),
        "settings files": len(test_settings.FILES) + len(test_settings.TOGETHER),
        "command lines": len(test_arguments.CASES),
    }
    rows = [f"| {name} | {count} |" for name, count in counts.items()]
    return [
        "## Bad input",
        "",
        "Each goes through the command a user runs and ends with exit code 2, a message that names "
        "file, place, value and next step, no traceback and nothing written outside the project; "
        "or it loads, where it is legal. Beside them properties are tested on generated bytes, "
        "tables, settings and overrides (`tests/bad_input/test_fuzz.py`), and every setting with "
        "wrong kinds of values and values out of range (`tests/bad_input/test_settings.py`).",
        "",
        "| What | Cases |",
        "|---|---|",
        *rows,
        "",
    ]


def _soak(found: dict[str, Any]) -> list[str]:
    lines = [
        "## Schedules",
        "",
        "`python -m benchmarks.reliability.soak` runs the deployments of `prefect.yaml` under a "
        "real server and worker on a schedule of seconds. What is kept is bounded by `assay clean "
        "--keep N` (`tests/flows/test_clean.py`, `tests/tracking/test_retention.py`).",
        "",
    ]
    if not found:
        return [*lines, "Not run yet.", ""]
    names = {
        "ended": "scheduled runs that ended",
        "killed": "of these killed with SIGKILL",
        "late": "marked late, as the worker was away",
        "late_that_ran": "late ones that ran",
        "lost": "lost",
        "doubled": "run twice",
        "refused_beside_a_run": "commands turned away beside a run",
        "server_restarts": "times the server was killed and started again",
        "minutes": "minutes",
    }
    rows = [f"| {text} | {found.get(name, 0)} |" for name, text in names.items()]
    states = ", ".join(f"{count} {state.lower()}" for state, count in found["by_state"].items())
    rows.append(f"| final states | {states} |")
    unexpected = [f"- {line}" for line in found["unexpected"]]
    return [
        *lines,
        "| What | Count |",
        "|---|---|",
        *rows,
        *(["", *unexpected] if unexpected else []),
    ]


def _large_log(found: dict[str, Any]) -> list[str]:
    lines = [
        "",
        "## Logs larger than memory",
        "",
        "`python -m benchmarks.prepare --events 100000000 --within 8 --json "
        "docs/reliability/large_log.json` "
        "writes a log and prepares it as the stage does: from 1 GiB on it is read in pieces with "
        "Polars, ids become integers on the disk, and the order of all events is made by ranges "
        "of users. All leakage checks run. The files are those of the same log read at once "
        "(`tests/data/test_streamed.py`). The kernel gives the process no more memory than said; "
        "what is charged to it counts what it has read and written of files, which gives way.",
        "",
    ]
    if not found:
        return [*lines, "Not run yet.", ""]
    lines += [
        "| Events | Log | In pieces | Reading | Preparing | Memory allowed | Charged at most |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found.values():
        lines.append(
            f"| {row['events']:,} | {row['log_gib']} GiB | {'yes' if row['in_pieces'] else 'no'} "
            f"| {row['read_seconds']:.0f} s | {row['prepare_seconds']:.0f} s "
            f"| {row['within_gib']:g} GiB | {row['charged_gib']} GiB |"
        )
    return [*lines, ""]


def _processes(found: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## Several processes and GPUs",
        "",
        "`torchrun --standalone --nproc-per-node 2 -m benchmarks.distributed --json FILE` trains "
        "the same model alone and in all processes together, in float32 without dropout, and "
        "compares losses and weights; then it times steps as trainings make them, on GPUs in "
        "bf16. Sweeps and the fault benchmark over a Dask cluster: `tests/flows/test_cluster.py`.",
        "",
        "| Device | Processes | Backend | Losses apart | Weights apart | Events/s, one | all | "
        "all, larger batch |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found:
        if row:
            apart = row["one_against_all"]
            cells = [row["device"], row["processes"], row["backend"]]
            cells.append(f"{apart['largest_relative_loss_difference']:.1e}")
            cells.append(f"{apart['weights_apart_over_weights_moved']:.1e}")
            names = ("one", "all_same_batch", "all_larger_batch")
            cells += [f"{row[name]['events_per_second']:,}" for name in names]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    note = (
        "Losses apart: the largest relative difference of any step. Weights apart: norm of the "
        "difference over the norm of what training changed. A larger batch has as many times the "
        "windows as there are processes."
    )
    return [*lines, "", note]


def main() -> None:
    """Write the page."""
    (REPOSITORY / PAGE).write_text(render(REPOSITORY / RESULTS), encoding="utf-8")


if __name__ == "__main__":
    main()
