"""Kills every stage at random moments, lets it run again and compares all it leaves.

    python -m benchmarks.reliability.kills --kills 100

Each stage of a tiny experiment runs in a fork that is killed with SIGKILL or SIGTERM, or by what
is left of a power cut: the file written last loses its end. The stage then runs again, in half of
the cases after its outputs were deleted as DVC does. Its outputs, its MLflow journals and, for the
delivery, the MLflow database have to be those of an unbroken run, byte for byte apart from times.
Writes docs/reliability/kills.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.reliability.forks import (
    MODES,
    import_all,
    journal_sizes,
    kill_fork,
    run_fork,
    warm_up,
)
from benchmarks.reliability.outputs import delivered, digest_outputs, logged
from benchmarks.reliability.tally import Tally, read_rows, write_row
from tasks.settings import settings_from_dict, write_params
from tasks.tracking.experiment import DELIVER_LATER

RESULTS = Path("docs") / "reliability" / "kills.json"
SETTINGS = {
    "experiment": {"name": "tiny", "models": ["popularity", "xlstm"]},
    "data": {
        "source": "synthetic",
        "synthetic": {"num_users": 40, "num_items": 20, "min_length": 5, "max_length": 9},
    },
    "train": {
        "shared": {
            "max_epochs": 6,
            "max_seq_len": 8,
            "batch_size": 8,
            "record_every_steps": 2,
            "checkpoint_every_steps": 2,
        },
        "xlstm": {"embedding_dim": 8, "num_heads": 2, "chunk_size": 8},
    },
    "evaluate": {"bootstrap_samples": 100},
}
SECOND_KILL_SHARE = 0.25
IMPORTED = "imported.json"


@dataclass(frozen=True)
class StageUnderTest:
    """One thing that is killed."""

    name: str
    work: Callable[[], int]
    outs: tuple[str, ...] = ()
    """What DVC deletes before the stage runs again."""
    is_delivery: bool = False


def stages() -> list[StageUnderTest]:
    """Every stage in the order of the DAG, and the delivery to MLflow."""
    from tasks.__main__ import main

    def stage(name: str, *outs: str, options: tuple[str, ...] = ()) -> StageUnderTest:
        label = " ".join([name, *options[1:2]])
        return StageUnderTest(label, lambda: main([name, *options]), outs)

    models = [
        stage("train", f"artifacts/models/{model}/seed_0", options=("--model", model))
        for model in SETTINGS["experiment"]["models"]
    ]
    return [
        stage("fetch", "data/raw"),
        stage("prepare", "data/prepared"),
        stage("check", "artifacts/checks"),
        *models,
        stage("evaluate", "artifacts/evaluation"),
        stage("diagnose", "artifacts/diagnosis"),
        stage("report", "artifacts/report"),
        StageUnderTest("deliver", _deliver, is_delivery=True),
    ]


def _announce() -> int:
    """What a flow does before its first stage; and an empty MLflow database."""
    from tasks import tracking
    from tasks.tracking.store import Store

    Store(tracking.store_uri(Path.cwd()))
    tracking.begin_experiment(Path.cwd(), {})
    return 0


def _deliver() -> int:
    """What a flow does after its last stage."""
    from tasks import tracking
    from tasks.tracking import delivery, state

    tracking.end_experiment(Path.cwd())
    refused = state.spool_folder(Path.cwd()) / "refused.jsonl"
    return 1 if delivery.count_waiting(Path.cwd()) or refused.exists() else 0


def found(place: Path, stage: StageUnderTest) -> dict[str, Any]:
    """Everything that has to be the same after a kill."""
    about = {"outputs": digest_outputs(place), "logged": logged(place)}
    if stage.is_delivery:
        about["delivered"] = delivered(place / ".assay" / "mlflow.db")
    return about


def test_stage(
    stage: StageUnderTest,
    before: Path,
    expected: dict[str, Any],
    tally: Tally,
    kills: int,
    seconds: float,
) -> Iterator[Tally]:
    """Kill a stage ``kills`` times, or for some time, each in a copy of its starting folder.

    Yields:
        The tally after every try.
    """
    # Other moments than those of the kills that were made before.
    rng = random.Random(f"{stage.name} {tally.kills}")
    started = time.monotonic()
    # What else the machine does changes: kills are drawn over the time a run takes now.
    lasted = deque([tally.seconds], maxlen=5)
    while tally.kills < kills and time.monotonic() - started < seconds:
        mode = MODES[tally.kills % len(MODES)]
        with tempfile.TemporaryDirectory(dir=before.parent) as scratch:
            place = Path(scratch) / "workspace"
            shutil.copytree(before, place, symlinks=True)
            _relocate(place, before)
            # Stages that ended well had the system write their journals.
            durable = journal_sizes(place)
            for _ in range(2 if rng.random() < SECOND_KILL_SHARE else 1):
                after = rng.uniform(0, max(lasted))
                ended = kill_fork(
                    stage.work, place, after=after, mode=mode, rng=rng, durable=durable
                )
                tally.ended_first += not ended.was_killed
                tally.kills += ended.was_killed
                tally.by_mode[mode] += ended.was_killed
                if ended.truncated:
                    tally.truncated[_kind(ended.truncated)] += 1
                if rng.random() < 0.5:
                    for out in stage.outs:
                        shutil.rmtree(place / out, ignore_errors=True)
            again = run_fork(stage.work, place)
            lasted.append(again.seconds)
            log = (place / "stage.log").read_text(errors="replace")
            problem = difference(expected, found(place, stage)) if again.code == 0 else log[-1500:]
            if problem:
                tally.failures.append(f"{mode}, {ended.truncated or 'nothing'} cut: {problem}")
        yield tally


def _kind(name: str) -> str:
    """A file's name without what differs from run to run."""
    return Path(name).name.split("-")[0] if "spool" in name else Path(name).name


def _relocate(place: Path, before: Path) -> None:
    """Journals name copies in the spool by their full path."""
    for path in (place / ".assay" / "spool").glob("*.jsonl"):
        times = path.stat()
        path.write_text(path.read_text().replace(str(before), str(place)))
        os.utime(path, (times.st_atime, times.st_mtime))


def difference(expected: Any, got: Any, path: str = "") -> str:
    """The first place where two values differ, in words; empty where none does."""
    if isinstance(expected, dict) and isinstance(got, dict):
        for key in sorted({*expected, *got}):
            if key not in got:
                return f"{path}/{key} is missing"
            if key not in expected:
                return f"{path}/{key} is one too many: {got[key]!r:.200}"
            if found_one := difference(expected[key], got[key], f"{path}/{key}"):
                return found_one
        return ""
    if isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        pairs = enumerate(zip(expected, got, strict=True))
        return next((text for n, (a, b) in pairs if (text := difference(a, b, f"{path}/{n}"))), "")
    return "" if expected == got else f"{path}: {got!r:.300}, expected {expected!r:.300}"


def main() -> None:
    """Run the harness and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="kills of each stage")
    parser.add_argument("--seconds", type=float, default=600.0, help="longest time for a stage")
    parser.add_argument(
        "--only", action="append", help="a stage, such as 'train xlstm' (repeatable)"
    )
    parser.add_argument("--go-on", action="store_true", help="add to the kills of earlier calls")
    parser.add_argument("--work", type=Path, help="folder that keeps the unbroken runs")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    os.environ[DELIVER_LATER] = "1"
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    warm_up()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.work or Path(scratch)
        before = _start(folder / "start")
        for number, stage in enumerate(stages()):
            after = folder / f"after_{number}"
            seconds = _run_unbroken(stage, before, after)
            known = read_rows(options.out).get(stage.name) if options.go_on else None
            tally = Tally.from_row(known) if known else Tally(stage.name, seconds)
            if not options.only or stage.name in options.only:
                unbroken = found(after, stage)
                names = [each.name for each in stages()]
                for _ in test_stage(stage, before, unbroken, tally, options.kills, options.seconds):
                    write_row(options.out, tally.as_row(), names)
                failed = f", {len(tally.failures)} FAILED" if tally.failures else ""
                print(f"{stage.name}: {tally.kills} kills of {seconds:.2f} s{failed}", flush=True)
                for failure in tally.failures[:3]:
                    print("   ", failure, flush=True)
                if stage.name == (options.only or [""])[-1]:
                    break
            before = after


def _start(folder: Path) -> Path:
    """The folder the first stage starts from, made unless it is there."""
    if not folder.exists():
        folder.mkdir(parents=True)
        write_params(settings_from_dict(SETTINGS), folder / "params.yaml")
        assert run_fork(_announce, folder).code == 0
    return folder


def _run_unbroken(stage: StageUnderTest, before: Path, after: Path) -> float:
    """Make the folder a stage leaves behind, unless it is there; returns its seconds."""
    measured = after / "unbroken.json"
    if not measured.exists():
        # Once to import what the stage needs, then to measure it without.
        for _ in range(2):
            shutil.rmtree(after, ignore_errors=True)
            shutil.copytree(before, after, symlinks=True)
            _relocate(after, before)
            unbroken = run_fork(_noting_imports(stage.work), after)
            log = (after / "stage.log").read_text(errors="replace")
            assert unbroken.code == 0, f"{stage.name} fails unbroken:\n{log[-3000:]}"
            modules = json.loads((after / IMPORTED).read_text())
            import_all(modules)
        measured.write_text(json.dumps({"seconds": unbroken.seconds, "modules": modules}))
        print(f"{stage.name}: {unbroken.seconds:.2f} s unbroken", flush=True)
    known = json.loads(measured.read_text())
    import_all(known["modules"])
    return float(known["seconds"])


def _noting_imports(work: Callable[[], int]) -> Callable[[], int]:
    def noted() -> int:
        code = work()
        Path(IMPORTED).write_text(json.dumps(sorted(sys.modules)))
        return code

    return noted


if __name__ == "__main__":
    main()
