"""Trains RecBole's GRU4Rec or SASRec and says how good it is after how many seconds.

Runs in an environment of its own that holds RecBole (`pip install recbole==1.2.1 'numpy<2'
'pandas<2.2' 'scipy<1.12'`) and nothing of this project; `benchmarks.beside_recbole` starts it.
RecBole's own settings, but for what makes the two comparable: full ranking of the last event of
every user, the event before it for validation after every epoch, no negative samples.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path


class BudgetSpentError(Exception):
    """The training has had all the processor seconds it was given."""


def write_dataset(log: Path, folder: Path) -> None:
    """MovieLens-100K's tab-separated log as RecBole reads it."""
    target = folder / "log"
    target.mkdir()
    head = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    (target / "log.inter").write_text(head + log.read_text())


def train(model: str, log: Path, seconds: float) -> dict:
    """One training, from the log to the last validation within the budget."""
    import torch
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    torch.set_num_threads(1)
    epochs = []
    with tempfile.TemporaryDirectory() as place:
        write_dataset(log, Path(place))
        values = {
            "data_path": place,
            "checkpoint_dir": place,
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "train_neg_sample_args": None,
            "eval_args": {
                "split": {"LS": "valid_and_test"},
                "order": "TO",
                "group_by": "user",
                "mode": "full",
            },
            "metrics": ["NDCG", "Hit"],
            "topk": [10],
            "valid_metric": "NDCG@10",
            "use_gpu": False,
            "show_progress": False,
            "state": "ERROR",
            "seed": 0,
        }
        config = Config(model=model, dataset="log", config_dict=values)
        init_seed(config["seed"], config["reproducibility"])
        dataset = create_dataset(config)
        train_data, valid_data, _ = data_preparation(config, dataset)
        network = get_model(model)(config, train_data.dataset)
        trainer = get_trainer(config["MODEL_TYPE"], model)(config, network)

        def note(epoch: int, score: float) -> None:
            spent = time.process_time()
            epochs.append({"cpu_seconds": round(spent, 1), "val_ndcg_at_10": round(score, 4)})
            if spent > seconds:
                raise BudgetSpentError

        stopped = "its own early stopping"
        try:
            trainer.fit(train_data, valid_data, verbose=False, saved=False, callback_fn=note)
        except BudgetSpentError:
            stopped = "budget"
    best = max(epoch["val_ndcg_at_10"] for epoch in epochs)
    return {
        "model": model,
        "stopped_by": stopped,
        "cpu_seconds": round(time.process_time(), 1),
        "best_val_ndcg_at_10": best,
        "epochs": epochs,
    }


def main() -> None:
    """Train and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=("GRU4Rec", "SASRec"), required=True)
    parser.add_argument("--log", type=Path, required=True, help="u.data of MovieLens-100K")
    parser.add_argument("--seconds", type=float, required=True, help="processor seconds at most")
    options = parser.parse_args()
    print(json.dumps(train(options.model, options.log, options.seconds)))


if __name__ == "__main__":
    main()
