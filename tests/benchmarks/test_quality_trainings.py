import json

import numpy as np
import polars as pl
import pytest

from benchmarks.quality_trainings import (
    compare_models,
    extract_trained,
    long_histories,
    read_trainings,
)
from tasks.settings import Settings, load_settings, settings_from_dict, write_params


@pytest.fixture
def folder(tmp_path):
    values = Settings().model_dump(mode="json")
    values["experiment"].update(models=["gru", "xlstm"], seeds=[0, 1, 2])
    write_params(settings_from_dict(values), tmp_path / "params.yaml")
    for seed, validation in ((0, 0.2), (2, 0.4)):
        place = tmp_path / "artifacts" / "models" / "gru" / f"seed_{seed}"
        place.mkdir(parents=True)
        record = {
            "seed": seed,
            "num_parameters": 7,
            "wall_seconds": 10.0 + seed,
            "device": "cuda:0",
            "settings": {"gru": {"num_layers": 2}},
            "val/ndcg_at_10": validation,
            "peak_gpu_memory_mb": 100.0 * seed,
        }
        (place / "record.json").write_text(json.dumps(record))
        epochs = [{"seconds": 5.0}, {"seconds": 1.5 + seed}]
        (place / "epochs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in epochs))
    return tmp_path


def test_finished_trainings_are_summed_up_over_their_seeds(folder):
    found = read_trainings(folder, load_settings(folder / "params.yaml"))
    assert list(found) == ["gru"]
    assert found["gru"] == {
        "parameters": 7,
        "seconds": 11.0,
        "device": "cuda:0",
        "settings": {"num_layers": 2},
        "seeds": [0, 2],
        "validation": [0.2, 0.4],
        "epoch_seconds": 1.5,
        "gpu_mebibytes": 200,
    }


def test_run_without_a_training_has_nothing_to_keep(tmp_path):
    write_params(Settings(), tmp_path / "params.yaml")
    with pytest.raises(ValueError, match="no finished training"):
        extract_trained(tmp_path)


def test_long_histories_are_of_test_users_as_ranked():
    def row(split, ranking, group, value):
        values = {"model": "gru", "users": "9", "ndcg_at_10": value, "ndcg_at_10_se": "0.01"}
        return values | {"split": split, "ranking": ranking, "group": group}

    rows = [
        row("test", "as_ranked", "100-199", "0.1"),
        row("test", "as_ranked", "200+", "0.2"),
        row("test", "seen_filtered", "200+", "0.3"),
        row("val", "as_ranked", "200+", "0.4"),
    ]
    expected = {"users": 9, "ndcg_at_10": 0.2, "standard_error": 0.01}
    assert long_histories(rows) == {"gru": expected}


def ranked_run(folder, ranks, data_hash="a"):
    (folder / "artifacts" / "evaluation").mkdir(parents=True)
    (folder / "data" / "prepared").mkdir(parents=True)
    (folder / "data/prepared/manifest.json").write_text(json.dumps({"data_hash": data_hash}))
    frames = [
        pl.DataFrame({"user": np.arange(len(r)), "rank": r}).with_columns(
            split=pl.lit("test"), model=pl.lit("gru"), seed=pl.lit(seed)
        )
        for seed, r in enumerate(ranks)
    ]
    pl.concat(frames).sample(fraction=1.0, shuffle=True, seed=0).write_parquet(
        folder / "artifacts/evaluation/per_user.parquet"
    )
    return folder


def test_runs_of_one_log_are_compared_user_by_user(tmp_path):
    first = ranked_run(tmp_path / "a", [np.array([1, 1, 30] * 20), np.array([1, 1, 40] * 20)])
    second = ranked_run(tmp_path / "b", [np.array([1, 30, 30] * 20)])
    [pair] = compare_models({"gru, short": (first, "gru"), "gru, long": (second, "gru")})
    assert (pair["better"], pair["worse"]) == ("gru, short", "gru, long")
    assert pair["difference"] == pytest.approx(1 / 3)
    assert (pair["better_mean"], pair["worse_mean"]) == pytest.approx((2 / 3, 1 / 3))
    assert (pair["better_seeds"], pair["worse_seeds"]) == (2, 1)
    assert pair["is_significant"]


def test_runs_of_different_logs_are_not_compared(tmp_path):
    first = ranked_run(tmp_path / "a", [np.array([1])])
    second = ranked_run(tmp_path / "b", [np.array([1])], data_hash="b")
    with pytest.raises(ValueError, match="of 2 logs"):
        compare_models({"gru, short": (first, "gru"), "gru, long": (second, "gru")})
