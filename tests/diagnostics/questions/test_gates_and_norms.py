"""X14, X15, X17, X19, X23 on stacks of known cells: fire, stay quiet, hold at the limit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from tasks.diagnostics.engine import answer
from tasks.diagnostics.measurements.negatives import deviation
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.questions import (
    clipping_stops_explosions,
    gates_not_stuck,
    learning_rate_suits_depth,
    negatives_as_declared,
    state_norms_bounded,
)
from tasks.diagnostics.subject import Draws
from xlstm_model import SequenceRecommender, XLSTMStack


@pytest.fixture(scope="module")
def stack(toy):
    """`stack(change)`: the healthy program around an xLSTM whose modules `change` may spoil."""

    def make(change=lambda model: None, pattern: str = "ms", **parts):
        def build(num_items: int, seed: int) -> nn.Module:
            torch.manual_seed(seed)
            core = XLSTMStack(8, pattern, num_heads=2, inner_multiple=8)
            model = SequenceRecommender(num_items, core, 8, dropout=0.2)
            change(model)
            return model

        def logits(model, batch):
            return model(batch.item_ids, mask=batch.mask)

        def score(model, item_ids, lengths, times):
            with torch.no_grad():
                return model.eval().last_scores(item_ids, lengths)

        clean = toy()
        return Probe(
            toy(
                build_model=build,
                variants=(),
                logits=logits,
                loss=lambda model, batch: clean.criterion(logits(model, batch), batch),
                score=score,
                **parts,
            )
        )

    return make


def slstm(model: nn.Module) -> nn.Module:
    return model.sequence_model.blocks[1].recurrence


def shut_forget(model: nn.Module) -> None:
    with torch.no_grad():
        slstm(model).bias[:, 1] = -30.0


def shut_output(model: nn.Module) -> None:
    with torch.no_grad():
        slstm(model).bias[:, 3] = -12.0


def stick_open(model: nn.Module) -> None:
    with torch.no_grad():
        slstm(model).bias[:, 0] = -60.0
        slstm(model).bias[:, 1] = 60.0


@pytest.mark.parametrize("change", [shut_forget, shut_output, stick_open])
def test_stuck_gates_are_found(stack, change) -> None:
    finding = answer(gates_not_stuck.QUESTION, stack(change))
    assert (finding.verdict, finding.stage) == ("faulty", "activation")


def test_an_open_forget_gate_alone_is_healthy(stack) -> None:
    def open_forget(model: nn.Module) -> None:
        with torch.no_grad():
            slstm(model).bias[:, 1] = 12.0

    assert answer(gates_not_stuck.QUESTION, stack(open_forget)).verdict == "healthy"


def test_gates_without_slope_are_found_in_a_gru(toy, toy_model_class) -> None:
    assert answer(gates_not_stuck.QUESTION, Probe(toy())).verdict == "healthy"

    def build(num_items: int, seed: int):
        torch.manual_seed(seed)
        model = toy_model_class(num_items)
        with torch.no_grad():
            model.core.weight_ih_l0.mul_(300.0)
        return model

    finding = answer(gates_not_stuck.QUESTION, Probe(toy(build_model=build, variants=())))
    assert (finding.verdict, finding.stage) == ("faulty", "activation")


def test_models_without_gates_are_not_judged_by_them(toy) -> None:
    def build(num_items: int, seed: int):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Embedding(num_items + 1, 8), nn.Linear(8, num_items + 1))
        return model

    plain = Probe(toy(build_model=build, variants=()))
    assert answer(gates_not_stuck.QUESTION, plain).verdict == "not_applicable"
    finding = answer(clipping_stops_explosions.QUESTION, Probe(toy()))
    assert finding.checks[0].verdict == "not_applicable"


def test_gates_at_the_limit(stack) -> None:
    question = gates_not_stuck.QUESTION
    evidence = question.measure(stack())
    for share, verdict in ((0.9, "healthy"), (0.9001, "faulty")):
        changed = dataclasses.replace(evidence, forget_closed=share)
        assert question.judge(changed, question.limits).verdict == verdict


def test_an_unstabilised_cell_is_found(stack) -> None:
    def no_stabiliser(model: nn.Module) -> None:
        cell = slstm(model)

        def forward(gates, *, mask=None, state=None):
            c = n = h = torch.zeros_like(gates[:, 0, 0])
            outputs = []
            for raw in gates.unbind(1):
                mixed = torch.einsum("bhp,hpgo->bgho", h, cell.recurrent_weight)
                i, f, z, o = (raw + mixed + cell.bias.transpose(0, 1)).unbind(1)
                c = f.sigmoid() * c + i.exp() * z.tanh()
                n = f.sigmoid() * n + i.exp()
                h = o.sigmoid() * c / n
                outputs.append(h)
            return torch.stack(outputs, dim=1), None

        cell.forward = forward

    finding = answer(clipping_stops_explosions.QUESTION, stack(no_stabiliser))
    assert (finding.verdict, finding.stage) == ("faulty", "numeric")
    assert answer(clipping_stops_explosions.QUESTION, stack()).verdict == "healthy"


def test_a_growing_state_is_found(stack) -> None:
    def grow(model: nn.Module) -> None:
        def double(module, args, output):
            power = 4.0 ** torch.arange(output[0].shape[1])
            return output[0] * power[:, None, None], output[1]

        slstm(model).register_forward_hook(double)

    finding = answer(state_norms_bounded.QUESTION, stack(grow))
    assert (finding.verdict, finding.stage) == ("faulty", "numeric")
    assert answer(state_norms_bounded.QUESTION, stack()).verdict == "healthy"


def test_the_spread_of_scores_on_a_line_is_open(stack) -> None:
    """One direction is all that two normalised features leave: users meet in it or they do not."""

    def flatten(model: nn.Module) -> None:
        def keep_one(module, args, output):
            sign = output[0][..., :1].sign() * torch.ones(8)
            return sign / 4.0 ** torch.arange(output[0].shape[1])[:, None], output[1]

        model.sequence_model.register_forward_hook(keep_one)

    found = {
        check.name: check for check in answer(state_norms_bounded.QUESTION, stack(flatten)).checks
    }
    fading = found["power by which scores of users come together along a window"]
    assert fading.value is None
    assert "more than one direction" in fading.missing


@pytest.mark.parametrize("rate", [1.0, 1e-9])
def test_a_rate_that_suits_no_block_is_found(stack, rate: float) -> None:
    def optimizer(model):
        return torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)

    finding = answer(learning_rate_suits_depth.QUESTION, stack(make_optimizer=optimizer))
    assert (finding.verdict, finding.stage) == ("faulty", "learning_rate")
    assert answer(learning_rate_suits_depth.QUESTION, stack()).verdict == "healthy"


def sampled(toy, draw, **declared):
    said = dataclasses.replace(
        toy().declared, loss="bpr", num_negatives=5, collisions="allow", **declared
    )
    return Probe(toy(declared=said, sample_negatives=draw))


def uniform(prepared, batch):
    number = prepared.data.num_items
    generator = torch.Generator().manual_seed(batch.seed + 7919 * int(batch.targets.sum()))
    items = torch.randint(1, number + 1, (len(batch.item_ids), 5), generator=generator)
    return Draws(items, torch.full(items.shape, -float(np.log(number))))


def test_uniform_draws_are_healthy_and_other_ones_are_found(toy) -> None:
    question = negatives_as_declared.QUESTION
    assert answer(question, sampled(toy, uniform)).verdict == "healthy"
    finding = answer(question, sampled(toy, uniform, negatives="popularity"))
    assert (finding.verdict, finding.stage) == ("faulty", "negatives")


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (lambda draws: draws._replace(item_ids=draws.item_ids - 1), "no item"),
        (
            lambda draws: draws._replace(item_ids=draws.item_ids[:, :3], log_q=draws.log_q[:, :3]),
            "size",
        ),
        (lambda draws: draws._replace(log_q=draws.log_q + 0.1), "log-probability"),
        (lambda draws: draws._replace(item_ids=draws.item_ids * 0 + 3), "drawn before"),
    ],
)
def test_wrong_draws_are_found_exactly(toy, spoil, name: str) -> None:
    finding = answer(
        negatives_as_declared.QUESTION, sampled(toy, lambda p, b: spoil(uniform(p, b)))
    )
    assert finding.verdict == "faulty"
    assert any(name in check.name for check in finding.checks if check.broken)


def test_own_items_have_to_be_left_out_where_declared(toy) -> None:
    probe = sampled(toy, uniform)
    said = dataclasses.replace(probe.subject.declared, collisions="exclude_positives")
    spoiled = Probe(probe.subject.replace(declared=said))
    assert answer(negatives_as_declared.QUESTION, spoiled).verdict == "faulty"


def test_a_full_softmax_needs_no_negatives_and_that_is_measured(toy) -> None:
    finding = answer(negatives_as_declared.QUESTION, Probe(toy()))
    assert finding.verdict == "not_applicable"
    assert "equals the cross-entropy" in finding.sentence


def test_deviation_tells_a_shifted_distribution_from_the_declared_one() -> None:
    expected = np.linspace(1, 3, 40) / np.linspace(1, 3, 40).sum()
    right = np.random.default_rng(0).multinomial(20_000, expected)
    chance, distance = deviation(right, expected)
    assert chance > 0.01
    assert distance < 0.02
    chance, distance = deviation(right[::-1], expected)
    assert chance < 1e-6
    assert distance > 0.1
