import json

import pytest

from benchmarks.quality import KEPT, PAGE, extract, text
from benchmarks.quality_expected import EXPECTED, compare_with_expected, expected_ranges
from benchmarks.quality_logs import LOGS
from benchmarks.quality_page import gains_of_times, page, peer_verdict, sentences, verdict
from benchmarks.quality_words import standing
from tasks.report.records import MissingRecordError


def estimate(mean):
    return {"mean": mean, "low": mean - 0.01, "high": mean + 0.01, "seed_deviation": 0.002}


def make_run(values, best_possible=None):
    rows = {
        model: {
            "num_users": 50,
            "num_seeds": 2,
            "metrics": {"ndcg_at_10": estimate(value), "hit_rate_at_10": estimate(2 * value)},
        }
        for model, value in values.items()
    }
    pair = {
        "metric": "ndcg_at_10",
        "better": "gru",
        "worse": "xlstm",
        "difference": 0.02,
        "low": 0.01,
        "high": 0.03,
        "p_holm": 0.01,
        "is_significant": True,
    }
    training = {"parameters": 1234, "seconds": 9.0, "device": "cpu", "settings": {}}
    return {
        "seeds": [0, 1],
        "counts": {"users": 50, "items": 20, "train_events": 400},
        "best_possible": best_possible,
        "tables": {"as_ranked": {"rows": rows, "pairs": [pair]}},
        "trainings": dict.fromkeys(values, training),
    }


def test_page_orders_models_and_puts_the_temporal_split_beside():
    runs = {
        "movielens-100k": make_run({"xlstm": 0.1, "gru": 0.12}),
        "movielens-100k-temporal": make_run({"xlstm": 0.05, "gru": 0.06}),
    }
    text = page(runs)
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == ["gru", "xlstm"]
    assert ".1200 [.1100, .1300] ± .0020" in rows[0]
    assert ".0600 [.0500, .0700]" in rows[0]
    assert "1,234" in rows[0]
    assert "as LRURec prepared it" not in text


@pytest.mark.parametrize(
    ("target", "word"),
    [(0.1, "reached"), (0.105, "missed within the interval"), (0.2, "missed (")],
    ids=["reached", "within", "missed"],
)
def test_verdict_says_whether_a_target_was_reached(target, word):
    assert word in verdict(make_run({"xlstm": 0.1}), "xlstm", target)


def test_sentence_about_a_model_that_is_behind_has_a_negative_difference():
    [line] = sentences(make_run({"xlstm": 0.1, "gru": 0.12}))
    assert line == "- `xlstm` minus `gru`: -0.0200 [-0.0300, -0.0100], p = 0.01: significant."


def test_interval_that_holds_a_loss_misses_the_best_peer():
    run = make_run({"xlstm": 0.1, "gru": 0.12})
    assert peer_verdict(run).endswith("(`gru`) with an interval that excludes a loss: missed.")
    run["tables"]["as_ranked"]["pairs"][0].update(better="xlstm", worse="gru")
    assert peer_verdict(run).endswith("reached.")


def test_standing_names_what_is_significantly_better_and_worse():
    text = standing(make_run({"xlstm": 0.1, "gru": 0.12, "lstm": 0.05}))
    assert text.startswith("`xlstm` is number 2 of 3")
    assert "significantly better than none" in text
    assert "significantly worse than `gru` (50 test users)" in text


def test_what_times_are_worth_is_told_of_each_model_alone():
    run = make_run({"xlstm": 0.1, "gru": 0.12})
    [pair] = run["tables"]["as_ranked"]["pairs"]
    within = pair | {"better": "gru, order alone", "worse": "gru, with times"}
    within |= {"better_mean": 0.12, "better_seeds": 3, "worse_mean": 0.1, "worse_seeds": 5}
    across = pair | {"better": "gru, with times", "worse": "xlstm, with times"}
    [first, blank, line] = gains_of_times([across, within])
    assert line.startswith(
        "- `gru, with times` minus `gru, order alone`: -0.0200 [-0.0300, -0.0100]"
    )
    text = page({"movielens-1m-half-gaps": run | {"beside_order": [within]}})
    assert "\n".join([first, blank, line]) in text


def test_synthetic_table_is_a_share_of_the_best_possible():
    run = make_run({"xlstm": 0.45}, {"test/ndcg_at_10": 0.5})
    assert "| `xlstm` | 0.900 |" in page({"synthetic-order2": run})


def test_kept_intervals_are_what_a_run_is_confirmed_by():
    kept = {"movielens-100k": make_run({"gru": 0.12, "xlstm": 0.1})}
    ranges = expected_ranges("movielens-100k", kept)
    lines, all_within = compare_with_expected(make_run({"gru": 0.125, "xlstm": 0.2}), ranges)
    assert lines[0] == "gru: test NDCG@10 0.1250, expected 0.1100 to 0.1300: confirmed"
    assert lines[1].endswith("expected 0.0900 to 0.1100: outside")
    assert not all_within


def test_model_that_is_missing_in_a_run_is_not_confirmed():
    assert compare_with_expected(make_run({"gru": 0.2}), EXPECTED["movielens-1m"])[1] is False


def test_nothing_is_expected_of_an_unknown_preset():
    with pytest.raises(ValueError, match="movielens-1m"):
        expected_ranges("mine", {})


def test_run_without_an_evaluation_is_refused(tmp_path):
    (tmp_path / "params.yaml").write_text("", encoding="utf-8")
    with pytest.raises(MissingRecordError, match="evaluat"):
        extract(tmp_path)


def test_presets_named_on_the_page_exist(repository):
    names = [name for log in LOGS for name in (log.preset, log.temporal) if name]
    assert all((repository / "params" / f"{name}.yaml").is_file() for name in names)


@pytest.mark.skipif(not KEPT.is_dir(), reason="no run was kept yet")
def test_page_in_the_docs_is_what_the_kept_runs_make():
    assert PAGE.read_text(encoding="utf-8") == text()
    assert all(json.loads(path.read_text())["seeds"] for path in KEPT.glob("*.json"))


def test_models_without_the_bias_stand_under_their_log():
    name = "lrurec-movielens-1m"
    plain = make_run({"xlstm": 0.1, "gru": 0.12})
    plain["tables"]["seen_filtered"] = plain["tables"]["as_ranked"]
    text = page({name: make_run({"xlstm": 0.2, "gru": 0.22}), f"{name}-plain": plain})
    part = text[text.index("Without the learned bias") :]
    assert "| `gru` | .1200 [.1100, .1300] ± .0020 | .2400 |" in part
    assert "LRURec paper" in part


def test_run_that_was_not_ranked_confirms_nothing():
    with pytest.raises(ValueError, match="nothing is expected of 'mine'"):
        expected_ranges("mine", {"mine": {"tables": {}}})
