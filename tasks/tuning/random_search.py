"""Random search with the same number of trials and the same shared space for every model.

Needs torch and NumPy only, so that it runs where the rest of the project is not installed::

    python -m tasks.tuning.random_search data/prepared --models gru,xlstm --trials 20

Every trial is one training with full-ranking validation each epoch; only validation metrics are
looked at. Lines of the output: model, trial, settings, best validation metrics, epochs, seconds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Values = dict[str, Any]

SHARED_DEFAULTS: Values = {
    "max_seq_len": 50,
    "batch_size": 64,
    "max_epochs": 40,
    "patience": 6,
    "loss": "cross_entropy",
    "label_smoothing": 0.0,
    "gbce_calibration": 0.75,
    "warmup_steps": 50,
    "schedule": "cosine",
    "final_learning_rate": 0.1,
    "max_grad_norm": 1.0,
    "precision": "float32",
    "device": "auto",
    "checkpoint_every_steps": 1_000_000,
}
MODEL_DEFAULTS: dict[str, Values] = {
    "gru": {},
    "lstm": {},
    "sasrec": {"num_heads": 2},
    "xlstm": {
        "pattern": "ms",
        "num_heads": 2,
        "conv_kernel": 4,
        "slstm_conv_gates": "if",
        "chunk_size": 64,
        "time_gaps": False,
    },
}


@dataclass(frozen=True)
class Space:
    """What is drawn, the same for all models, and what only some have.

    Attributes:
        shared: Choices of the loop, per setting.
        section: Choices every neural model has.
        own: Choices of single models.
        learning_rates: Range of the log-uniform learning rate.
    """

    shared: dict[str, tuple]
    section: dict[str, tuple]
    own: dict[str, dict[str, tuple]]
    learning_rates: tuple[float, float] = (5e-4, 1e-2)

    def draw(self, model: str, rng: np.random.Generator) -> tuple[Values, Values]:
        """Draw the shared settings and the model's section."""
        shared = {key: _choice(rng, values) for key, values in self.shared.items()}
        low, high = np.log(self.learning_rates)
        section = {key: _choice(rng, values) for key, values in self.section.items()}
        section["learning_rate"] = float(f"{np.exp(rng.uniform(low, high)):.2g}")
        section["repeat_bias"] = True
        section |= {key: _choice(rng, values) for key, values in self.own.get(model, {}).items()}
        return SHARED_DEFAULTS | shared, MODEL_DEFAULTS[model] | section


DEFAULT_SPACE = Space(
    shared={
        "batch_size": (64, 128),
        "max_seq_len": (50, 100),
        "label_smoothing": (0.0, 0.1),
    },
    section={
        "embedding_dim": (64,),
        "num_layers": (1, 2),
        "dropout": (0.2, 0.3, 0.4, 0.5),
        "tied": (True, False),
        "weight_decay": (0.01, 0.1, 0.3),
    },
    own={
        "sasrec": {"num_heads": (1, 2, 4)},
        "xlstm": {"pattern": ("ms", "sm"), "num_layers": (1,), "num_heads": (1, 2, 4)},
    },
    learning_rates=(7e-4, 7e-3),
)


def _choice(rng: np.random.Generator, values: tuple) -> Any:
    return values[int(rng.integers(len(values)))]


def trials(models: list[str], count: int, seed: int, space: Space) -> Iterator[Values]:
    """Yield the trials, models in turn, so that an early end leaves them with equal numbers."""
    for number in range(count):
        for position, model in enumerate(models):
            rng = np.random.default_rng([seed, number, position])
            shared, section = space.draw(model, rng)
            yield {"model": model, "trial": number, "shared": shared, "section": section}


def run_trial(trial: Values, folder: Path, training_seed: int = 0, test: bool = False) -> Values:
    """Train once and return the trial with its best validation metrics.

    Args:
        trial: ``model``, ``shared`` and ``section`` settings.
        folder: Prepared data.
        training_seed: Seed of the training.
        test: Also rank the test split, unfiltered and without seen items; for chosen settings only.
    """
    import torch

    from tasks.data.prepared import PreparedData
    from tasks.training.assemble import assemble
    from tasks.training.loop import train

    torch.set_num_threads(1)
    data = PreparedData.load(folder)
    ready = assemble(trial["model"], data, trial["shared"], trial["section"], seed=training_seed)
    record = train(ready.parts, ready.plan)
    best = record.history[record.best_epoch - 1]
    result = {
        **trial,
        "seed": training_seed,
        "num_parameters": ready.recommender.num_parameters,
        "best_epoch": record.best_epoch,
        "num_epochs": record.num_epochs,
        "seconds": record.wall_seconds,
        "val": {key: best[key] for key in ("val/ndcg_at_10", "val/hit_rate_at_10")},
    }
    if test:
        result["test"] = _test_metrics(ready.recommender, data, trial["shared"]["max_seq_len"])
    return result


def _test_metrics(recommender: Any, data: Any, max_seq_len: int) -> dict[str, float]:
    from tasks.evaluation.evaluate import rank_split
    from tasks.evaluation.metrics import mean_metrics

    ranked = rank_split(recommender.score, data, data.test, max_len=max_seq_len, filter_seen="both")
    values = mean_metrics(ranked.ranks, (10,))
    filtered = mean_metrics(ranked.seen_filtered_ranks, (10,))
    values |= {f"filtered_{name}": value for name, value in filtered.items()}
    return values


def _work(job: tuple[Values, Path, int, bool, float]) -> Values | None:
    trial, folder, seed, test, deadline = job
    if time.time() > deadline:
        return None
    try:
        return run_trial(trial, folder, seed, test)
    except Exception as error:
        return {**trial, "seed": seed, "error": f"{type(error).__name__}: {error}"}


def run_all(
    jobs: list[tuple[Values, int, bool]], folder: Path, out: Path, workers: int, budget: float
) -> list[Values]:
    """Run jobs in worker processes, appending each result to ``out`` as it comes.

    Args:
        jobs: Trial, training seed, whether to look at the test split.
        folder: Prepared data.
        out: JSON lines file.
        workers: Processes.
        budget: Seconds after which no new trial starts.
    """
    deadline = time.time() + budget
    tasks = [(trial, folder, seed, test, deadline) for trial, seed, test in jobs]
    results = []
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, maxtasksperchild=None) as pool, out.open("a") as file:
        for result in pool.imap_unordered(_work, tasks):
            if result is None:
                continue
            results.append(result)
            file.write(json.dumps(result) + "\n")
            file.flush()
            os.fsync(file.fileno())
    return results


def print_best(results: list[Values], count: int = 5) -> None:
    """Print the best trials of each model by validation NDCG@10."""
    for model in dict.fromkeys(result["model"] for result in results):
        own = [r for r in results if r["model"] == model and "val" in r]
        own.sort(key=lambda r: -r["val"]["val/ndcg_at_10"])
        print(f"{model}: {len(own)} trials")
        for result in own[:count]:
            shared = {k: v for k, v in result["shared"].items() if v != SHARED_DEFAULTS[k]}
            print(
                f"  {result['val']['val/ndcg_at_10']:.4f} epoch {result['best_epoch']}/"
                f"{result['num_epochs']} {result['seconds']:.0f} s {shared} {result['section']}"
            )
    for result in results:
        if "error" in result:
            print(f"failed: {result['model']} {result['trial']}: {result['error']}")


def best_trial(results: list[Values], model: str) -> Values:
    """Return the settings of a model's best trial by validation NDCG@10.

    Raises:
        ValueError: the model has no finished trial.
    """
    own = [result for result in results if result["model"] == model and "val" in result]
    if not own:
        raise ValueError(f"model {model!r} has no finished trial; expected at least one.")
    best = max(own, key=lambda result: result["val"]["val/ndcg_at_10"])
    return {key: best[key] for key in ("model", "trial", "shared", "section")}


def print_finalists(results: list[Values]) -> None:
    """Print mean and standard deviation over seeds of each finalist's test metrics."""
    for model in dict.fromkeys(result["model"] for result in results):
        own = [result for result in results if result["model"] == model and "test" in result]
        for name in ("ndcg_at_10", "hit_rate_at_10", "filtered_ndcg_at_10"):
            values = [result["test"][name] for result in own]
            print(
                f"{model}: test {name} {np.mean(values):.4f} ± {np.std(values, ddof=1):.4f} "
                f"over {len(values)} seeds"
            )


def main() -> None:
    """Run a search from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="prepared data")
    parser.add_argument("--models", default="gru,lstm,sasrec,xlstm")
    parser.add_argument("--trials", type=int, default=20, help="per model")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds")
    parser.add_argument("--finalists", type=int, default=0, help="seeds for the best of each model")
    parser.add_argument("--out", type=Path, default=Path("search.jsonl"))
    options = parser.parse_args()
    drawn = trials(options.models.split(","), options.trials, options.seed, DEFAULT_SPACE)
    jobs = [(trial, 0, False) for trial in drawn]
    results = run_all(jobs, options.folder, options.out, options.workers, options.budget)
    print_best(results)
    if options.finalists:
        chosen = [best_trial(results, model) for model in options.models.split(",")]
        again = [(trial, seed, True) for seed in range(options.finalists) for trial in chosen]
        print_finalists(run_all(again, options.folder, options.out, options.workers, float("inf")))


if __name__ == "__main__":
    main()
