"""What one process does: trials and final trainings of one package's models, until none is left.

Trials are drawn as `assay tune` draws them (Optuna's TPE after ten random ones, hopeless trainings
ended by the median of others), from a journal that all processes share. When a peer's search is
over, its best settings are trained with several seeds and the test events ranked, once a seed.
Every result is one line, written as soon as it is there::

    python -m benchmarks.peers.work recbole carry/movielens-100k --to out --trials 16 --seeds 3
"""

from __future__ import annotations

import argparse
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from optuna.trial import TrialState

from benchmarks.peers.fitting import (
    Fitted,
    Rules,
    Training,
    count_parameters,
    fit,
    mean_hits,
    mean_ndcg,
    ranks_of,
    write_ranks,
)
from benchmarks.peers.place import Budget, Place
from benchmarks.peers.space import PEERS, peers_of


def make_training(
    place: Place, settings: dict[str, Any], seed: int, device: torch.device
) -> tuple[Any, Rules]:
    """A training that is ready to start, and the rules of its package."""
    family = PEERS[place.name].family
    arguments = (place.name, place.data, place.shared, settings, seed, device)
    if family == "recbole":
        from benchmarks.peers import recbole_models as own

        return own.RecBoleTraining(*arguments), Rules(own.MAX_EPOCHS, own.PATIENCE)
    if family == "rectools":
        from benchmarks.peers import rectools_models as theirs

        return theirs.RecToolsTraining(*arguments), Rules(theirs.MAX_EPOCHS, theirs.PATIENCE)
    from benchmarks.peers.xlstm_blocks import XLSTMTraining

    train = place.shared["train"]
    return XLSTMTraining(*arguments), Rules(train["max_epochs"], train["patience"])


def run_training(
    place: Place,
    settings: dict[str, Any],
    seed: int,
    device: torch.device,
    until: float,
    tell: Callable[[int, float], None],
    checkpoints: Path | None = None,
) -> tuple[Training, Fitted]:
    """Train once; only trainings by this project's own loop can go on from checkpoints."""
    training, rules = make_training(place, settings, seed, device)
    rules = Rules(rules.max_epochs, rules.patience, until)
    if hasattr(training, "fit"):
        return training, training.fit(rules, tell, checkpoints)
    data, width = place.data, place.shared["max_seq_len"]

    def validate() -> float:
        return mean_ndcg(ranks_of(training, data, data.val, width, device))

    return training, fit(training, validate, rules, tell)


def run_trial(
    place: Place,
    trial: optuna.Trial,
    settings: dict[str, Any],
    device: torch.device,
    budget: Budget,
) -> None:
    """One trial: a training judged by validation."""
    start, seen = time.time(), []

    def tell(epoch: int, value: float) -> None:
        seen.append(value)
        trial.report(value, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    study, ended = place.study(), "failed"
    try:
        _, fitted = run_training(place, settings, 0, device, budget.until, tell)
        ended = fitted.stopped
        study.tell(trial, fitted.value)
    except optuna.TrialPruned:
        ended = "pruned"
        study.tell(trial, state=TrialState.PRUNED)
    except Exception:
        study.tell(trial, state=TrialState.FAIL)
        raise
    finally:
        row = {"number": trial.number, "settings": settings, "ended": ended, "epochs": len(seen)}
        best = max(seen, default=None)
        place.write("trials", {**row, "val": best, "seconds": round(time.time() - start, 1)})


def run_seed(place: Place, seed: int, device: torch.device, budget: Budget) -> None:
    """One final training with the best settings; ranks the test events."""
    chosen = place.chosen()
    settings = chosen.settings
    checkpoints = place.out / "state" / f"{place.key}-{chosen.source}-{seed}"
    training, fitted = run_training(
        place, settings, seed, device, budget.until, lambda epoch, value: None, checkpoints
    )
    data, width = place.data, place.shared["max_seq_len"]
    if fitted.stopped == "time":
        return  # begun anew, or gone on with, by the next command
    test = ranks_of(training, data, data.test, width, device)
    row = {
        "seed": seed,
        "settings": settings,
        "trials": chosen.trials,
        "best_trial": chosen.value,
        "parameters": count_parameters(training.model),
        "device": device.type,
        **asdict(fitted),
        "test/ndcg_at_10": mean_ndcg(test),
        "test/hit_rate_at_10": mean_hits(test),
        "users": len(test),
        "ranks": write_ranks(test),
    }
    place.write("seeds", row)


def work(places: list[Place], device: torch.device, budget: Budget) -> None:
    """Do whatever is to be done next until nothing is left that may come."""
    while time.time() < budget.until:
        for place in places:
            seed = place.next_seed(budget)
            if seed is not None:
                _guarded(run_seed, place, seed, device, budget)
                break
            drawn = place.next_trial(budget)
            if drawn is not None:
                _guarded(run_trial, place, *drawn, device, budget)
                break
        else:
            if not any(place.may_go_on(budget) for place in places):
                return
            time.sleep(0.3)


def _guarded(function: Any, place: Place, *arguments: Any) -> None:
    try:
        function(place, *arguments)
    except Exception:  # another peer, or another trial, may still work
        print(place.key, traceback.format_exc(), flush=True)
        place.write("errors", {"error": traceback.format_exc(limit=-3)})
        if "CUDA error" in traceback.format_exc():
            raise


def main() -> None:
    """Work from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family", choices=sorted({peer.family for peer in PEERS.values()}))
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--search-until", type=float, default=float("inf"))
    parser.add_argument("--until", type=float, default=float("inf"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--turn", type=int, default=0, help="which peer of the package goes first")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("high")
    np.seterr(all="ignore")
    device = torch.device(options.device)
    names = peers_of(options.family)
    names = names[options.turn % len(names) :] + names[: options.turn % len(names)]
    places = [Place(folder, name, options.to) for folder in options.folders for name in names]
    budget = Budget(options.trials, options.seeds, options.search_until, options.until)
    print(f"{options.family} {os.getpid()} begins", flush=True)
    work(places, device, budget)


if __name__ == "__main__":
    main()
