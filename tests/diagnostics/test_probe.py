"""The probe measures once and changes nothing."""

from __future__ import annotations

import pytest
import torch

from tasks.diagnostics.engine import run_questions
from tasks.diagnostics.probe import Probe, shake_weights
from tasks.diagnostics.problems import NotMeasuredError, SubjectError
from tasks.diagnostics.questions import QUESTIONS
from tasks.diagnostics.subject import Trained
from tasks.diagnostics.untouched import untouched


def test_measurements_run_once_and_failures_are_remembered(toy) -> None:
    calls = []

    def measure(probe: Probe) -> int:
        calls.append(1)
        raise NotMeasuredError("nothing")

    probe = Probe(toy())
    for _ in range(2):
        with pytest.raises(NotMeasuredError):
            probe.evidence(measure)
    assert len(calls) == 1


def test_training_is_the_same_with_and_without_all_questions(toy) -> None:
    def losses(ask: bool) -> list[float]:
        subject = toy()
        torch.manual_seed(3)
        prepared = subject.prepare(subject.log)
        model = subject.build_model(prepared.data.num_items, 0)
        optimizer = subject.make_optimizer(model)
        found = []
        for batch in subject.make_batches(prepared, 0):
            found.append(float(subject.train_step(subject.loss, model, optimizer, batch)))
            if ask:
                watched = subject.replace(trained=Trained(model))
                run_questions(Probe(watched), QUESTIONS)
        return found

    assert losses(ask=True) == losses(ask=False)


def test_untouched_restores_weights_gradients_modes_and_random_states(toy_model_class) -> None:
    model = toy_model_class(5).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    with untouched(model):
        model.eval()
        model(torch.tensor([[1, 2]])).sum().backward()
        torch.nn.init.zeros_(model.head.weight)
        model.head.requires_grad_(False)
        torch.rand(3)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_shaking_moves_everything_but_padding_rows(toy_model_class) -> None:
    model = toy_model_class(5)
    torch.nn.init.zeros_(model.core.weight_hh_l0)
    shake_weights(model, seed=0)
    assert float(model.core.weight_hh_l0.detach().std()) > 0.03
    assert float(model.embedding.weight[0].detach().abs().max()) == 0


def test_logits_of_another_shape_are_the_programs_fault(toy) -> None:
    probe = Probe(toy(logits=lambda model, batch: model(batch.item_ids)[..., :-1]))
    with pytest.raises(SubjectError, match="logits: returned"):
        probe.replay(probe.batch())


def test_an_unknown_mode_or_part_is_refused(toy) -> None:
    with pytest.raises(ValueError, match="mode"):
        Probe(toy(), "fast")
    with pytest.raises(TypeError, match="no parts"):
        toy(lossy=None)
