"""Other packages' models on the page: what is kept of them, tables and sentences."""

import json

from benchmarks.quality_logs import Log
from benchmarks.quality_peers import peers_section, sentences, summarise


def make_found():
    trials = [
        {"val": 0.2, "ended": "patience", "settings": {"dropout": 0.1}, "seconds": 1.0},
        {"val": 0.3, "ended": "time", "settings": {"dropout": 0.2}, "seconds": 2.0},
        {"val": None, "ended": "failed", "settings": {}, "seconds": 0.5},
        {"val": 0.9, "ended": "failed", "settings": {}, "seconds": 0.5},
    ]
    estimate = {"mean": 0.1, "low": 0.08, "high": 0.12, "seed_deviation": 0.01}
    row = {"num_seeds": 5, "num_users": 9, "ndcg_at_10": estimate, "hit_rate_at_10": estimate}
    pair = {"better": "rectools-hstu", "worse": "xlstm", "difference": 0.02, "p_holm": 0.01}
    peers = {"rectools-hstu": summarise(trials, []), "recbole-sasrec": summarise(trials, [])}
    return {
        "peers": peers,
        "rows": {"xlstm": row, "rectools-hstu": row},
        "pairs": [{**pair, "low": 0.01, "high": 0.03, "is_significant": True}],
    }


def test_a_summary_counts_trials_with_a_result_and_keeps_the_best():
    found = make_found()["peers"]["recbole-sasrec"]
    assert (found["trials"], found["cut_off"], found["best_validation"]) == (2, 1, 0.3)
    assert found["settings"] == {"dropout": 0.2}
    assert "ranks" not in found


def test_a_summary_of_final_trainings_alone_has_their_settings():
    seed = {"seed": 1, "settings": {"dropout": 0.3}, "parameters": 7, "device": "cpu"}
    seed |= {"seconds": 2.0, "value": 0.1, "ranks": "AB"}
    found = summarise([], [seed, {**seed, "seed": 0, "ranks": "CD"}])
    assert (found["trials"], found["settings"]) == (0, {"dropout": 0.3})
    assert (found["seeds"], found["ranks"]) == ([0, 1], ["CD", "AB"])


def test_a_peer_that_is_ahead_is_said_to_be_and_an_unfinished_one_is_not_compared():
    lines = sentences(make_found())
    assert lines[0].startswith("- `xlstm` minus `rectools-hstu`: -0.0200 [-0.0300, -0.0100]")
    assert lines[1].startswith("- `rectools-hstu`: 1 of its 2 trials were ended by time")
    assert "`recbole-sasrec`: not through, trials 2 (cut off: 1), final" in lines[2]


def test_the_section_shows_ours_and_peers_and_is_empty_without_any():
    text = peers_section({"mine": make_found()}, [Log("A log", "mine")])
    assert "### A log" in text
    assert "| `xlstm` (ours) | .1000 [.0800, .1200] ± .0100 | .1000 | – | – | 5 | – | – |" in text
    assert "| `recbole-sasrec` | – | – | .3000 | 2 | 0 | – | – |" in text
    assert "temporal" not in text.split("### A log")[1]
    assert peers_section({}) == ""


def test_numbers_of_the_temporal_split_stand_beside_the_others():
    found = make_found()
    estimate = {"mean": 0.03, "low": 0.02, "high": 0.04, "seed_deviation": 0.0}
    row = {"num_seeds": 3, "num_users": 1234, "ndcg_at_10": estimate, "hit_rate_at_10": estimate}
    rows = {"rectools-hstu": row, "lstm": row}
    temporal = {"peers": {}, "rows": rows, "pairs": found["pairs"]}
    text = peers_section({"mine": found, "later": temporal}, [Log("A log", "mine", "later")])
    lines = {line.split(" | ")[0].strip("| "): line for line in text.splitlines()}
    assert lines["Model"].split(" | ")[3] == "NDCG@10, temporal split"
    assert lines["`rectools-hstu`"].split(" | ")[3] == ".0300 [.0200, .0400]"
    assert lines["`xlstm` (ours)"].split(" | ")[3] == "–"
    assert lines["`lstm` (ours)"].startswith("| `lstm` (ours) | – | – | .0300 [.0200, .0400] | – |")
    assert "(`params/later.yaml`): 1,234 test users" in text
    assert "\n  - `xlstm` minus `rectools-hstu`" in text


def test_a_peer_without_a_search_of_its_own_has_a_row():
    found = make_found()
    seed = {"seed": 0, "settings": {}, "parameters": 7, "device": "cpu", "seconds": 2.0}
    found["peers"]["recbole-gru4rec"] = summarise([], [seed | {"value": 0.1, "ranks": "AB"}])
    text = peers_section({"mine": found}, [Log("A log", "mine")])
    assert "| `recbole-gru4rec` | – | – | – | – | 1 | 7 | 2 (cpu) |" in text


def test_kept_files_hold_one_rank_per_test_user(repository):
    for path in sorted((repository / "benchmarks/results/quality/peers").glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        for name, row in found["rows"].items():
            for text in found["peers"].get(name, {}).get("ranks", []):
                assert len(text) == row["num_users"]
