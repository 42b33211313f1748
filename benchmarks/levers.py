"""What single changes to a preset do: one training per change and seed, judged on validation.

Make the runs beside the preset's own, train them, and print the table::

    python -m benchmarks.levers make runs/movielens-100k
    python -m benchmarks.remote_runs train runs/lever-* --gpus 1 --workers 12
    python -m benchmarks.levers table

Every change is made alone and nothing else is tuned again for it, so a change that would need
another learning rate or dropout looks worse here than it is. The test set is not read.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from tasks.settings import load_settings, settings_from_dict, write_params

ROOT = Path(__file__).resolve().parents[1]
MODEL = "xlstm"
SEEDS = (0, 1, 2)
METRIC = "val/ndcg_at_10"
PREFIX = "lever-"
SHARED, OWN = "shared", MODEL

LEVERS: dict[str, tuple[str, dict[str, Any]]] = {
    "as-tuned": (SHARED, {}),
    "sampled-softmax": (SHARED, {"loss": "sampled_softmax"}),
    "sampled-softmax-popularity": (SHARED, {"loss": "sampled_softmax", "negatives": "popularity"}),
    "bpr": (SHARED, {"loss": "bpr"}),
    "bce": (SHARED, {"loss": "bce"}),
    "gbce": (SHARED, {"loss": "gbce"}),
    "label-smoothing": (SHARED, {"label_smoothing": 0.1}),
    "length-50": (SHARED, {"max_seq_len": 50}),
    "length-200": (SHARED, {"max_seq_len": 200}),
    "length-1000": (SHARED, {"max_seq_len": 1000}),
    "constant-learning-rate": (SHARED, {"schedule": "constant"}),
    "batch-32": (SHARED, {"batch_size": 32}),
    "untied-head": (OWN, {"tied": False}),
    "pattern-m": (OWN, {"pattern": "m"}),
    "pattern-ms": (OWN, {"pattern": "ms"}),
    "pattern-sm": (OWN, {"pattern": "sm"}),
    "pattern-ss": (OWN, {"pattern": "ss"}),
    "no-convolution": (OWN, {"conv_kernel": 1}),
    "all-gates-convolved": (OWN, {"slstm_conv_gates": "ifzo"}),
    "time-gaps": (OWN, {"time_gaps": True}),
    "width-32": (OWN, {"embedding_dim": 32}),
    "width-128": (OWN, {"embedding_dim": 128}),
    "heads-1": (OWN, {"num_heads": 1}),
    "heads-4": (OWN, {"num_heads": 4}),
    "dropout-0.3": (OWN, {"dropout": 0.3}),
}
"""Name of the run -> section of ``train`` and what is changed in it."""


def make(base: Path) -> None:
    """Write a folder per change beside ``base``, which has settings and prepared data."""
    values = load_settings(base / "params.yaml").model_dump(mode="json")
    for name, (section, changes) in LEVERS.items():
        changed = json.loads(json.dumps(values))
        changed["experiment"].update(name=PREFIX + name, models=[MODEL], seeds=list(SEEDS))
        changed["tracking"]["enabled"] = False
        changed["train"][section].update(changes)
        folder = base.parent / (PREFIX + name)
        folder.mkdir(exist_ok=True)
        if not (folder / "data").exists():
            (folder / "data").symlink_to(Path("..") / base.name / "data")
        write_params(settings_from_dict(changed), folder / "params.yaml")


def read_values(runs: Path) -> dict[str, list[float]]:
    """Best validation NDCG@10 of every finished seed, by change."""
    found = {}
    for name in LEVERS:
        folder = runs / (PREFIX + name) / "artifacts" / "models" / MODEL
        records = [folder / f"seed_{seed}" / "record.json" for seed in SEEDS]
        values = [json.loads(path.read_text())[METRIC] for path in records if path.is_file()]
        if values:
            found[name] = values
    return found


def table(values: dict[str, list[float]]) -> str:
    """Markdown: each change with its mean, deviation and difference, best first.

    >>> print(table({"as-tuned": [0.10, 0.12], "bpr": [0.05, 0.07]}))
    | Change | validation NDCG@10 | difference | seeds |
    |---|---|---|---|
    | as-tuned | .1100 ± .0141 | +.0000 | 2 |
    | bpr | .0600 ± .0141 | -.0500 | 2 |
    """
    start = mean(values["as-tuned"])
    lines = ["| Change | validation NDCG@10 | difference | seeds |", "|---|---|---|---|"]
    for name, own in sorted(values.items(), key=lambda item: -mean(item[1])):
        spread = f" ± {stdev(own):.4f}".replace("0.", ".") if len(own) > 1 else ""
        shown = f"{mean(own):.4f}".removeprefix("0")
        difference = f"{mean(own) - start:+.4f}".replace("0.", ".")
        lines.append(f"| {name} | {shown}{spread} | {difference} | {len(own)} |")
    return "\n".join(lines)


def main() -> None:
    """Run a step from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("make", "table"))
    parser.add_argument("run", nargs="?", type=Path, default=ROOT / "runs" / "movielens-100k")
    options = parser.parse_args()
    if options.step == "make":
        make(options.run)
    else:
        print(table(read_values(options.run.parent)))


if __name__ == "__main__":
    main()
