"""The page: complete, escaped and self-contained; `test_page_in_browser` opens it."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tasks.diagnostics.measurements import gates
from tasks.diagnostics.stages import STAGES
from tasks.report.curves import SHUT_GATE
from tasks.report.diagnosis_view import NO_DIAGNOSIS, STAGE_GROUPS, group_of
from tasks.report.page import NO_NEURAL, NO_PLOTS, NO_XLSTM, render_page
from tasks.report.records import MissingRecordError, Records, read_records, with_names
from tasks.settings import Settings
from tests.report.conftest import ABOUT, HOSTILE, specs_of


def test_text_from_outside_is_escaped_everywhere(page: str) -> None:
    assert HOSTILE not in page
    assert page.count("&lt;/script&gt;&lt;script&gt;") >= 8


def test_data_inside_scripts_cannot_end_them(records: Records, settings: Settings) -> None:
    for training in records.trainings:
        training.steps[0]["gate/</script><b>/x"] = 0.5
    specs = specs_of(render_page(records, settings, "", ABOUT))
    assert "</script><b>/x" in json.dumps(specs["xlstm-gate"])
    for name in ("inside-map", "inside-paths", "user-0-gates-xlstm"):
        assert HOSTILE in json.dumps(specs[name])


def test_every_place_of_a_plot_has_its_data_once(page: str) -> None:
    places = re.findall(r'data-chart="([\w-]+)"', page)
    assert sorted(places) == sorted(specs_of(page))
    assert len(places) == len(set(places))
    assert len(re.findall(r'\bid="([^"]+)"', page.split("<script")[0])) == len(
        set(re.findall(r'\bid="([^"]+)"', page.split("<script")[0]))
    )


def test_the_page_names_no_outside_address_to_load(page: str) -> None:
    markup = page.split("<script", maxsplit=1)[0]
    assert "<figure>" in markup
    assert not re.findall(r'(?:src|href)="(?!#)', markup)
    assert "default-src 'none'" in page


def test_every_link_leads_somewhere(page: str) -> None:
    markup = page.split("<script", maxsplit=1)[0]
    links = set(re.findall(r'href="#([\w-]+)"', markup))
    assert {"h-diagnosis", "order_and_flow"} <= links
    assert links <= set(re.findall(r'\bid="([\w-]+)"', markup))


def test_the_first_screen_answers_four_questions(page: str) -> None:
    answers = re.findall(r'class="short">(.*?)</p>', page)
    assert answers == [
        "GRU, NDCG@10 0.0800.",
        "Yes.",
        "1 faulty.",
        "Run <code>assay diagnose --deep</code>.",
    ]


def test_a_fault_in_data_or_metrics_takes_the_trust_away(
    records: Records, settings: Settings
) -> None:
    records.findings["findings"][1].update(verdict="faulty", stage="pad")
    page = render_page(records, settings, "", ABOUT)
    assert re.findall(r'class="short">(.*?)</p>', page)[1] == "No."


def test_questions_stand_under_the_stage_they_blame(page: str) -> None:
    headings = re.findall(r'<h3 id="stage-\d+">([\w ]+?) <', page)
    assert headings == ["Data and split", "The network"]
    grouped = [stage for _, stages in STAGE_GROUPS for stage in stages]
    assert sorted(grouped) == sorted(STAGES)
    assert group_of({"stage": "metric", "stages": ["pad"]}) == "Evaluation"


def test_the_limit_is_drawn_into_the_evidence(page: str) -> None:
    spec = specs_of(page)["evidence-gradients_survive_time"]
    limits = [layer["data"]["values"] for layer in spec["layer"][1:]]
    assert limits == [[{"limit": 1e-4}]]
    shares = specs_of(page)["evidence-order_and_flow-shares"]
    assert shares["layer"][0]["data"]["values"][0]["share"] == pytest.approx(3e4)


def _drawn(spec: dict[str, Any]) -> list[Any]:
    """Limits that are drawn into a plot."""
    return [next(iter(layer["data"]["values"][0].values())) for layer in spec["layer"][1:]]


def test_norms_gates_and_gradients_show_their_limits(records: Records, settings: Settings) -> None:
    template = records.findings["findings"][1]
    band = [
        {
            **template["checks"][0],
            "name": f"{size} norm of a state",
            "limit": {"value": limit, "source": "healthy cells stay far inside"},
        }
        for size, limit in (("largest", 1e3), ("smallest", 1e-3))
    ]
    for id, checks in (("state_norms_bounded", band), ("gates_not_stuck", [])):
        records.findings["findings"].append({**template, "question": id, "checks": checks})
    specs = specs_of(render_page(records, settings, "", ABOUT))

    assert sorted(_drawn(specs["evidence-state_norms_bounded"])) == [1e-3, 1e3]
    values = specs["evidence-state_norms_bounded"]["layer"][0]["data"]["values"]
    assert [row["value"] for row in values if row["position"] == 1] == [1.0, 1.0]
    assert _drawn(specs["evidence-gates_not_stuck"]) == [SHUT_GATE] == [gates.CLOSED]
    assert _drawn(specs["xlstm-gate"]) == [SHUT_GATE]
    assert _drawn(specs["xlstm-grad"]) == [settings.train.shared.max_grad_norm]


def _finding(template: Any, question: str, checks: dict[str, tuple[float, float]], **evidence: Any):
    """A finding with a check for every name: what was measured, and its limit."""
    return {
        **template,
        "question": question,
        "checks": [
            {
                **template["checks"][0],
                "name": name,
                "value": value,
                "limit": {"value": limit, "source": ""},
            }
            for name, (value, limit) in checks.items()
        ],
        "evidence": {name: {"value": value, "unit": ""} for name, value in evidence.items()},
    }


def test_limits_stand_in_the_units_of_their_plots(records: Records, settings: Settings) -> None:
    add, template = records.findings["findings"].append, records.findings["findings"][1]
    steps = {
        "change of the weights by one optimiser step over their norm": (0.1, 1.0),
        "change of the weights that the whole budget can reach": (0.5, 0.01),
    }
    add(_finding(template, "learning_rate_suits", steps))
    popular = {"share of test targets among the 10 most popular items": (0.75, 0.95)}
    add(_finding(template, "distributions_reasonable", popular, cutoff=10))
    for question in ("features_used", "embeddings_learn", "sequences_long_enough"):
        add(_finding(template, question, {}))
    ends = {"outcome.uniform": 7.0, "outcome.popularity": 5.0}
    falls = {"fall of the loss by training, per fall by popularity": (3.0, 0.25)}
    add(_finding(template, "loss_falls", falls, **ends))
    specs = specs_of(render_page(records, settings, "", ABOUT))

    # A rate ten times as high makes steps as large as the weights, one of a fiftieth is too small.
    assert _drawn(specs["evidence-learning_rate_suits"]) == [0.02, 10.0, 1.0, 7.5]
    assert _drawn(specs["inside-rates"]) == [0.02, 10.0, 1.0, 7.5]
    assert _drawn(specs["evidence-distributions_reasonable"]) == [0.95, 10.0]
    assert _drawn(specs["evidence-sequences_long_enough"]) == [3, 20]
    assert _drawn(specs["evidence-loss_falls"]) == [6.5]
    ticks = specs["evidence-features_used"]["layer"][-1]
    assert [row["limit"] for row in ticks["data"]["values"]] == [0.25]
    spectrum = specs["evidence-embeddings_learn"]["encoding"]["strokeDash"]["condition"]
    assert spectrum["test"]["oneOf"] == ["xLSTM, untrained"]
    assert _drawn(specs["inside-lags"]) == [1e-4]


def test_circles_and_frames_show_what_is_usual(page: str) -> None:
    specs = specs_of(page)
    for id, radius in (("inside-map", 2.0), ("inside-paths", 3.0)):
        around = specs[id]["layer"][-1]["data"]["values"]
        assert all(abs(p["x"] ** 2 + p["y"] ** 2 - radius**2) < 1e-9 for p in around)
    # Two gates are at 0.001; that of a first event has nothing to forget.
    framed = specs["user-0-gates-xlstm"]["layer"][1]["data"]["values"]
    assert [row["position"] for row in framed] == [2]
    assert "has a red frame: 1 here" in page


def test_without_a_diagnosis_the_page_says_so(undiagnosed: Records, settings: Settings) -> None:
    page = render_page(undiagnosed, settings, "", ABOUT)
    assert NO_DIAGNOSIS.split(" (")[0] in page
    assert "data-filter" not in page.split("<script>")[0]
    assert NO_PLOTS.split(".")[0] in page
    assert "Why these recommendations" not in page


def test_a_run_without_neural_models_or_without_xlstm_says_so(
    records: Records, settings: Settings
) -> None:
    data_only = dataclasses.replace(records, plots={"data": records.plots["data"]}, trainings=[])
    assert NO_NEURAL in render_page(data_only, settings, "", ABOUT)
    gru = {name: rows for name, rows in records.plots.items() if name not in ("gates", "map")}
    gru["norms"] = [row for row in gru["norms"] if row["model"] == "gru"]
    page = render_page(dataclasses.replace(records, plots=gru), settings, "", ABOUT)
    assert NO_XLSTM in page
    assert NO_NEURAL not in page
    broken = dataclasses.replace(records, plots={**data_only.plots, "not_finite": ["gru"]})
    page = render_page(broken, settings, "", ABOUT)
    assert "GRU is left out: its weights are not finite." in page
    assert NO_NEURAL not in page


def test_items_are_shown_by_name_where_they_have_one(records: Records, settings: Settings) -> None:
    named = with_names(records, {HOSTILE: "<b>Star & Wars</b>", "b": "unused"})
    page = render_page(named, settings, "", ABOUT)
    for kind in ("inside-map", "inside-paths", "user-0-gates-xlstm", "user-0-reads-sasrec-block-0"):
        assert "<b>Star & Wars</b>" in json.dumps(specs_of(page)[kind])
    assert "<b>Star" not in page
    assert records.plots["data"] == named.plots["data"]


def test_what_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingRecordError, match="Run the stage evaluate first"):
        read_records(tmp_path, ("gru",), (0,))
    folder = tmp_path / "artifacts" / "evaluation"
    folder.mkdir(parents=True)
    (folder / "comparison.json").write_text("{", encoding="utf-8")
    with pytest.raises(MissingRecordError, match=r"comparison\.json is damaged"):
        read_records(tmp_path, ("gru",), (0,))
    for other in ("{}", '{"tables": []}', '{"tables": [1]}'):
        (folder / "comparison.json").write_text(other, encoding="utf-8")
        with pytest.raises(MissingRecordError, match=r"comparison\.json .*it holds no tables"):
            read_records(tmp_path, ("gru",), (0,))
    (folder / "comparison.json").write_text('{"tables": [{}]}', encoding="utf-8")
    report = tmp_path / "artifacts" / "report"
    report.mkdir()
    (report / "explanations.json").write_text('{"user": "u1"}', encoding="utf-8")
    with pytest.raises(MissingRecordError, match=r"explanations\.json is damaged"):
        read_records(tmp_path, ("gru",), (0,))
