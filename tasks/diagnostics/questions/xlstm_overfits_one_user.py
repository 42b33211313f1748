"""X1. Can the model memorise ten events of one user; and if not, can it without xLSTM's cells?

Reads: as `overfits_small_subset`, on one window of up to ten pairs. Where the model fails, the same
with a plain LSTM in place of its xLSTM stack (last but one rung of the strip-down ladder). Deep:
about a second where the model can.

Rule: at most a tenth of the learnable part of the loss is left. A model that fails where its
program with a plain LSTM succeeds has its fault within the cells or blocks; if both fail, it lies
around them.

Limits: as in `overfits_small_subset`.

The same picture from elsewhere: anything that stops learning altogether.

It can't tell: which cell; `strip_down_ladder` takes one away at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.diagnostics.finding import Finding, Limit
from tasks.diagnostics.measurements import overfit, windows_to_memorise
from tasks.diagnostics.measurements.overfit import MEMORISED, Overfit
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Limits, Question
from tasks.diagnostics.questions.overfits_small_subset import checks
from tasks.diagnostics.rungs import find_stack

PLAIN = "vanilla_lstm"

LIMITS = {
    "core": Limit(MEMORISED, "healthy models of all kinds pass it within 225 steps"),
    "means": Limit(0.5, "half of what 300 steps can teach"),
}


@dataclass(frozen=True)
class Evidence:
    """One user's window, with the model and with a plain LSTM in its stack's place."""

    model: Overfit
    plain: Overfit | None

    @property
    def lies_within_cells(self) -> bool:
        """The model fails, and a plain LSTM in the same place does not."""
        return self.plain is not None and self.plain.any_loss <= MEMORISED


def measure(probe: Probe) -> Evidence:
    """Memorise; take the cells out only where that fails."""
    found = probe.evidence(overfit.measure_one_user)
    plain = None
    if found.any_loss > MEMORISED and find_stack(probe.model()) is not None:
        windows = windows_to_memorise.choose_windows(probe, rows=1, positions=10)
        plain = overfit.memorise(probe, windows, rung=PLAIN)
    return Evidence(found, plain)


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """The model can, or the cells are named."""
    place = "cell" if evidence.lies_within_cells else "core"
    return QUESTION.finding(evidence, *checks(evidence.model, limits, place))


QUESTION = Question(
    id="xlstm_overfits_one_user",
    number="X1",
    title="Can the model memorise ten events of one user; and if not, can it without its cells?",
    stages=("cell", "core", "loss", "optimiser", "learning_rate"),
    mode="deep",
    measure=measure,
    judge=judge,
    limits=LIMITS,
    owns=frozenset({"train_step"}),
)
