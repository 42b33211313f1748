"""Makes ``docs/results.md`` from finished runs of the presets.

Two steps, so that the page can be made anew where the runs are not::

    python -m benchmarks.quality keep            # runs/NAME -> benchmarks/results/quality/NAME.json
    python -m benchmarks.quality write           # these files -> docs/results.md

Whether a run finds what it should, on MovieLens-1M, say; it is made first where there is none::

    python -m benchmarks.quality confirm movielens-1m

A run of a preset is made by ``assay run --params params/NAME.yaml --name NAME``, with
``--data FILE`` where the preset reads a log of the user's, or with `benchmarks.remote_runs` on a
machine with GPUs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import kept
from benchmarks.quality_expected import compare_with_expected, expected_ranges
from benchmarks.quality_long import (
    LONG_MODELS,
    WITH_TIMES,
    WITHOUT_TIMES,
    best_by_validation,
    shorter_windows,
)
from benchmarks.quality_page import page
from benchmarks.quality_peers import peers_section, read_peers
from benchmarks.quality_trainings import (
    compare_models,
    extract_trained,
    long_histories,
    read_trainings,
)
from tasks.report.records import MissingRecordError, read_records
from tasks.settings import load_settings

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "benchmarks" / "results" / "quality"
PAGE = ROOT / "docs" / "results.md"
METRICS = ("ndcg_at_10", "hit_rate_at_10")


def extract(folder: Path) -> dict[str, Any]:
    """Return what the page needs of a finished run.

    Raises:
        MissingRecordError: the run was not evaluated.
    """
    settings = load_settings(folder / "params.yaml")
    experiment = settings.experiment
    records = read_records(folder, experiment.models, experiment.seeds)
    tables = {
        table["ranking"]: {
            "rows": {row["model"]: _row(row) for row in table["rows"]},
            "pairs": [pair for pair in table["pairs"] if pair["metric"] == "ndcg_at_10"],
        }
        for table in records.comparison["tables"]
    }
    return {
        "name": folder.name,
        "split": settings.data.split,
        "seeds": list(experiment.seeds),
        "data_hash": records.manifest["data_hash"],
        "counts": records.manifest["counts"],
        "best_possible": records.comparison["best_possible"],
        "tables": tables,
        "trainings": read_trainings(folder, settings),
        "long_histories": long_histories(records.by_history_length),
    }


def _row(row: dict[str, Any]) -> dict[str, Any]:
    metrics = {name: row["metrics"][name] for name in METRICS}
    return {"num_users": row["num_users"], "num_seeds": row["num_seeds"], "metrics": metrics}


def keep(names: list[str]) -> None:
    """Extract runs; all presets that have a finished run when no name is given.

    Of a run that is named and was trained but not evaluated, its validation is kept.
    """
    KEPT.mkdir(parents=True, exist_ok=True)
    for name in names or [path.stem for path in sorted((ROOT / "params").glob("*.yaml"))]:
        folder = ROOT / "runs" / name
        try:
            is_ranked = (folder / "artifacts" / "evaluation" / "comparison.json").is_file()
            found = extract(folder) if is_ranked or not names else extract_trained(folder)
        except (MissingRecordError, ValueError) as error:
            print(f"{name}: left out, {error}")
            continue
        if is_ranked:
            found |= beside_others(name, found)
        path = KEPT / f"{name}.json"
        path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        print(f"{name}: kept")


def beside_others(name: str, found: dict[str, Any]) -> dict[str, Any]:
    """Tests of a run against others of the same log.

    Where one of these was not ranked here, the tests kept before stay, and that is said.
    """
    wanted: dict[str, dict[str, tuple[str, str]]] = {}
    if shorter := shorter_windows(name):
        wanted["beside_shorter"] = _each_model(shorter)
    if name == WITH_TIMES[0][1]:
        wanted["beside_order"] = _each_model(
            {"order alone": WITHOUT_TIMES[0][1], "with times": name}
        )
    if name == WITH_TIMES[-1][1]:
        wanted["best_by_validation"] = best_by_validation(read_kept() | {name: found})
    before, tests = read_kept().get(name, {}), {}
    for test, chosen in wanted.items():
        places = {
            label: (ROOT / "runs" / preset, model) for label, (preset, model) in chosen.items()
        }
        lacking = sorted({place.name for place, _ in places.values() if not _is_ranked(place)})
        if not lacking:
            tests[test] = compare_models(places)
        else:
            print(f"{name}: {test} not made anew, not ranked here: {', '.join(lacking)}")
            tests |= {test: before[test]} if test in before else {}
    return tests


def _each_model(presets: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Preset and model by a name for the two."""
    return {
        f"{model}, {words}": (preset, model)
        for words, preset in presets.items()
        for model in LONG_MODELS
    }


def _is_ranked(folder: Path) -> bool:
    return (folder / "artifacts" / "evaluation" / "per_user.parquet").is_file()


def read_kept() -> dict[str, dict[str, Any]]:
    """Kept extracts by name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(KEPT.glob("*.json"))}


def text() -> str:
    """The whole page, from what is kept."""
    return page(read_kept(), kept.read("history_cost")) + peers_section(read_peers())


def confirm(name: str) -> bool:
    """Run a preset unless it was run, and say whether its test results are what is expected.

    Raises:
        ValueError: nothing is known of the preset.
    """
    ranges = expected_ranges(name, read_kept())
    if not (ROOT / "runs" / name / "artifacts" / "evaluation" / "comparison.json").is_file():
        preset = ROOT / "params" / f"{name}.yaml"
        command = [sys.executable, "-m", "flows.cli", "run", "--params", preset, "--name", name]
        subprocess.run(command, cwd=ROOT, check=True)
    lines, all_within = compare_with_expected(extract(ROOT / "runs" / name), ranges)
    print("\n".join(lines))
    return all_within


def main() -> None:
    """Run a step from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("keep", "write", "confirm"))
    parser.add_argument("names", nargs="*", help="presets; all when empty")
    options = parser.parse_args()
    if options.step == "keep":
        keep(options.names)
    elif options.step == "confirm":
        sys.exit(sum(not confirm(name) for name in options.names))
    else:
        PAGE.write_text(text(), encoding="utf-8")
        print(PAGE.relative_to(ROOT))


if __name__ == "__main__":
    main()
