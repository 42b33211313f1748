"""The learning-rate response shows what a rate does to the loss."""

from __future__ import annotations

from tasks.diagnostics.plots.rates import MULTIPLES, learning_rate_response
from tasks.diagnostics.probe import Probe


def test_tiny_rates_learn_nothing_and_the_declared_one_learns(toy) -> None:
    rows = learning_rate_response(Probe(toy(), "deep"))
    assert [row["multiple"] for row in rows] == list(MULTIPLES)
    losses = {row["multiple"]: row["loss"] for row in rows}
    assert losses[1.0] < losses[0.01]
    # Next to no rate leaves the loss about where it was before any step.
    assert abs(losses[0.01] - losses[0.0]) < 0.1 * (losses[0.0] - losses[1.0])


def test_a_program_that_stops_at_a_rate_has_no_loss_there_and_one_without_steps_no_plot(
    toy,
) -> None:
    subject = toy()

    def stops(loss, model, optimizer, batch):
        if optimizer.param_groups[0]["lr"] > 0.05:
            raise FloatingPointError("the loss is not finite")
        return subject.train_step(loss, model, optimizer, batch)

    rows = learning_rate_response(Probe(toy(train_step=stops), "deep"))
    assert rows[-1] == {"multiple": 100.0, "loss": None}
    assert rows[0]["loss"] is not None
    assert learning_rate_response(Probe(toy(train_step=None), "deep")) == []
