"""Programs of other people's, of many shapes: sound ones are not red, broken ones are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from flows.cli import app
from tasks.diagnostics import example_log
from tasks.diagnostics.adapt import AdaptError
from tasks.diagnostics.diagnose import diagnose
from tasks.diagnostics.engine import Diagnosis
from tasks.diagnostics.own_program import OwnProgram, own_subject
from tasks.diagnostics.probe import Probe
from tests.diagnostics import own_models as own

LOG = example_log.example_log(own.ITEMS, num_users=40)
DECLARED = {"max_seq_len": 12, "batch_size": 16}


def _sampled_loss(module, batch):
    return module.sampled_loss(batch.item_ids, batch.targets, batch.asked)


def _outer_table(module, hidden):
    return hidden @ module.table.T


SOUND = {
    "gru": OwnProgram(own.Model),
    "module": OwnProgram(own.Model()),
    "time first, returns state": OwnProgram(own.TimeFirstWithState, batch_first=False),
    "packed, last scores": OwnProgram(own.Packed),
    "packed, all positions": OwnProgram(own.PackedEverywhere),
    "attention": OwnProgram(own.Attention),
    "attention, left padding": OwnProgram(own.Attention, padding_side="left"),
    "last column, left padding": OwnProgram(own.LeftLast, padding_side="left"),
    "hidden states": OwnProgram(own.HiddenOnly),
    "last hidden state": OwnProgram(own.LastHidden),
    "hidden states, table outside": OwnProgram(own.Tied, head=_outer_table),
    "items from 0": OwnProgram(own.Items, padding_id=own.ITEMS, first_item_id=0),
    "special tokens": OwnProgram(own.Special, first_item_id=2),
    "masked mean": OwnProgram(own.MaskedMean),
    "batch norm": OwnProgram(own.Normed),
    "state in float32": OwnProgram(own.NarrowState),
    "faint weights": OwnProgram(own.Faint),
    "sampled softmax": OwnProgram(own.Sampled, batch_loss=_sampled_loss),
}

BROKEN = {
    "time first unsaid": (OwnProgram(own.TimeFirstWithState), "batch"),
    "attention both ways": (OwnProgram(own.BothWays), "causal"),
    "gru both ways": (OwnProgram(own.BothDirections), "causal"),
    "mean of all": (OwnProgram(own.MeanOfAll), "causal"),
    "mean with padding": (OwnProgram(own.MeanWithPadding), "pad"),
    "last column, right padding": (OwnProgram(own.LeftLast), "pad"),
    "dropout always on": (OwnProgram(own.AlwaysDropout), "stochastic"),
    # It also crashes for one user with one event, which comes first.
    "batch statistics": (OwnProgram(own.NormedByBatch), "dims"),
    "state kept": (OwnProgram(own.KeepsState), "state"),
    "probabilities": (OwnProgram(own.Probabilities), "output"),
    "detached": (OwnProgram(own.Detached), "gradient_flow"),
    "an item stands in padding's row": (OwnProgram(own.Items), "embedding"),
}


def _answer(program: OwnProgram) -> Diagnosis:
    return diagnose(program, log=LOG, num_items=own.ITEMS, declared=DECLARED)


def _red(diagnosis: Diagnosis) -> list[str]:
    return [f"{f.number} {f.sentence}" for f in diagnosis.findings if f.verdict == "faulty"]


@pytest.mark.parametrize("name", SOUND)
def test_sound_models_of_any_shape_are_not_red(name: str) -> None:
    diagnosis = _answer(SOUND[name])
    assert _red(diagnosis) == []
    assert diagnosis.count()["healthy"] >= 25


@pytest.mark.parametrize("name", BROKEN)
def test_broken_models_are_blamed_for_what_is_broken(name: str) -> None:
    program, stage = BROKEN[name]
    diagnosis = _answer(program)
    assert diagnosis.stage == stage, _red(diagnosis)


def test_a_model_that_never_runs_is_blamed_and_what_runs_it_is_not() -> None:
    def fail(module, batch):
        raise RuntimeError("nothing runs")

    diagnosis = _answer(OwnProgram(own.Model, call=fail))
    assert [f.number for f in diagnosis.findings if f.verdict == "faulty"] == ["G8"]


@pytest.mark.parametrize(
    ("model", "expected"),
    [(own.Model, torch.float64), (own.NarrowState, torch.float32)],
    ids=["wide", "narrow"],
)
def test_identities_are_tried_in_the_precision_a_model_has_throughout(model, expected) -> None:
    subject = own_subject(OwnProgram(model, declared=DECLARED), log=LOG)
    assert Probe(subject).precision == expected


def test_a_signature_nobody_knows_is_said_at_once() -> None:
    with pytest.raises(AdaptError, match="needs 'input2'"):
        _answer(OwnProgram(nn.Bilinear(1, 1, 1)))


def test_a_program_of_many_parts_is_named_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine_left.py").write_text(
        "from tasks.diagnostics.own_program import OwnProgram\n"
        "from tests.diagnostics.own_models import LeftLast\n"
        "program = OwnProgram(LeftLast, padding_side='left')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    arguments = ["diagnose", "--model", "mine_left:program", "--num-items", "20", "--json"]
    result = CliRunner().invoke(app, [*arguments, "--only", "G11", "--fail-on", "faulty"])
    assert result.exit_code == 0, result.output
    assert [f["verdict"] for f in json.loads(result.output)["findings"]] == ["healthy"]
