from benchmarks.quality_long import LONG_MODELS, best_by_validation, long_section


def make_run(validation, test=None):
    training = {
        "seeds": [0, 1],
        "validation": validation,
        "parameters": 1234,
        "seconds": 9.0,
        "epoch_seconds": 0.5,
        "gpu_mebibytes": 2048,
    }
    estimate = {"mean": test, "low": 0.1, "high": 0.3}
    row = {"num_seeds": 2, "metrics": {"ndcg_at_10": estimate}}
    long = {"users": 7, "ndcg_at_10": 0.15, "standard_error": 0.01}
    return {
        "counts": {"users": 50, "items": 20, "train_events": 4000},
        "best_possible": {"val/ndcg_at_10": 0.5},
        "tables": {"as_ranked": {"rows": dict.fromkeys(LONG_MODELS, row)}} if test else {},
        "trainings": dict.fromkeys(("transitions", *LONG_MODELS), training),
        "long_histories": dict.fromkeys(LONG_MODELS, long),
    }


def test_windows_stand_side_by_side_with_their_tests():
    pair = {"better": "xlstm, 1,000", "worse": "gru, 200", "difference": 0.01}
    pair |= {"low": 0.002, "high": 0.02, "p_holm": 0.03, "is_significant": True}
    told = pair | {"better": "gru, 200", "worse": "gru, 1,000"}
    others = [
        pair | {"better": "gru, 1,000", "worse": "sasrec, 1,000"},
        pair | {"better": "sasrec, 1,000", "worse": "xlstm, 200"},
    ]
    tests = {"beside_shorter": [pair, told, *others]}
    runs = {
        "movielens-1m-half": make_run([0.21, 0.23], 0.2),
        "movielens-1m-half-s1000": make_run([0.1, 0.2], 0.25) | tests,
    }
    text = long_section(runs, {})
    assert "| `xlstm` | no | 200 | 2 | .2200 | .2000 [.1000, .3000] | .1500 ± .0100 (7) |" in text
    assert "| `xlstm` | no | 1,000 | 2 | .1500 | .2500" in text
    assert "`xlstm, 1,000` minus `gru, 200`: +0.0100 [+0.0020, +0.0200], p = 0.03" in text
    assert "`gru, 200` minus `gru, 1,000`" in text
    assert text.count(" minus ") == 2
    assert "Synthetic" not in text


def test_models_that_know_times_stand_beside_the_others():
    pair = {"better": "xlstm, 5,000 with times", "worse": "gru, 200", "difference": 0.01}
    pair |= {"low": 0.002, "high": 0.02, "p_holm": 0.03, "is_significant": True}
    runs = {
        "movielens-1m-half": make_run([0.2, 0.2], 0.2),
        "movielens-1m-half-gaps": make_run([0.1, 0.1], 0.2),
        "movielens-1m-half-gaps-s5000": make_run([0.3, 0.3], 0.3) | {"best_by_validation": [pair]},
    }
    text = long_section(runs, {})
    assert "| `gru` | yes | 5,000 | 2 | .3000 |" in text
    assert text.endswith(
        "`xlstm, 5,000 with times` minus `gru, 200`: +0.0100 [+0.0020, +0.0200], "
        "p = 0.03: significant.\n"
    )
    chosen = best_by_validation(runs)
    assert chosen["xlstm, 5,000 with times"] == ("movielens-1m-half-gaps-s5000", "xlstm")
    del runs["movielens-1m-half-gaps-s5000"]
    assert list(best_by_validation(runs)) == [f"{model}, 200" for model in LONG_MODELS]


def test_trainings_that_were_not_ranked_show_their_validation():
    trained = make_run([0.3, 0.4])
    del trained["trainings"]["gru"], trained["long_histories"]
    runs = {
        "movielens-1m-half": make_run([0.2, 0.2], 0.2),
        "movielens-1m-half-s1000": trained,
    }
    lines = long_section(runs, {}).splitlines()
    assert "| `xlstm` | no | 1,000 | 2 | .3500 | not ranked | – | 2.0 GiB |" in lines
    assert sum(line.startswith("| `gru`") for line in lines) == 1


def test_lags_are_shares_of_the_best_validation_by_seed():
    text = long_section({"synthetic-lag500": make_run([0.25, 0.5])}, {})
    assert "| 500 | 1,000 | 4,000 | `gru` | 0.500, 1.000 | 0.50 s | 2.0 GiB |" in text
    assert "`transitions` | 0.500 | – | – |" in text


def test_cost_that_was_not_measured_is_said():
    row = {"milliseconds": 5.04, "mebibytes": 1024, "scoring": 2.0}
    text = long_section({}, {"device": "GPU", "gru 200": row})
    assert "| `gru` | 200 | 5.0 ms | 1.0 GiB | 2.0 ms |" in text
    assert "| `gru` | 1,000 | not measured | – | – |" in text


def test_nothing_kept_makes_no_section():
    assert long_section({}, {}) == ""
