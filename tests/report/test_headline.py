"""The first lines say what the tests say, whichever way the result went."""

from __future__ import annotations

from tasks.report.headline import headlines, short_verdict, verdict_on
from tasks.report.records import Row


def test_the_first_line_names_the_best_model_with_its_interval(table: Row) -> None:
    first = headlines(table)[0]
    assert first == (
        "Best model: GRU, NDCG@10 0.0800 (95 % interval 0.0700 to 0.0900; 943 users, 1 seed)."
    )


def test_significant_and_noisy_differences_are_told_apart(table: Row) -> None:
    assert headlines(table)[1] == (
        "It is significantly better than Transitions; the difference to xLSTM is within noise."
    )


def test_an_xlstm_that_loses_is_said_so(table: Row) -> None:
    lines = headlines(table)
    assert any(line.startswith("xLSTM loses to GRU by 0.0050") for line in lines)
    assert any("within noise, p = 0.4" in line for line in lines)
    assert any(line.startswith("xLSTM beats Transitions by 0.0250") for line in lines)


def test_a_simple_model_that_beats_the_xlstm_is_named(table: Row) -> None:
    table["rows"][0]["model"] = "logistic_regression"
    for pair in table["pairs"]:
        pair["better"] = pair["better"].replace("gru", "logistic_regression")
    lines = headlines(table)
    assert any(line.startswith("xLSTM loses to Logistic regression") for line in lines)


def test_the_distance_to_the_best_possible_score(table: Row) -> None:
    assert headlines(table, best_possible=0.1)[-1].endswith("the best model reaches 80% of it.")


def test_one_model_and_none(table: Row) -> None:
    table["rows"] = table["rows"][:1]
    assert len(headlines({**table, "pairs": []})) == 1
    assert headlines({"rows": [], "pairs": []}) == ["No model was evaluated."]


def test_verdicts_against_the_best(table: Row) -> None:
    assert verdict_on(table, "gru") == "best; significantly better than 1 of 2"
    assert verdict_on(table, "xlstm") == "within noise of the best (p = 0.4)"
    assert verdict_on(table, "transitions") == "significantly worse (p = 0.004)"
    assert short_verdict(table, "transitions") == "worse, p = 0.004"
