"""X25. Where does learning start as the xLSTM is stripped down, part by part?

Reads: the full model and the rungs below it: without mLSTM, without sLSTM, sigmoid gates, no
normaliser, no convolution, no residual and norm, plain LSTM, plain RNN. At every rung all exact
questions, and where none about the stack is red for the full model, trainings by the program's own
steps, two seeds each. Deep: eighteen trainings.

Rule: where an exact question about cells, residuals, flow or states is red for the full model, the
first rung at which all that were red are quiet names the part that was taken away. Where the full
model makes less than half of the gain of the plain LSTM (paired over users), the first rung that
closes half of that gap names the part that stands in the way of learning. The two localise
independently; both are reported.

Limits: zero red questions; half of the gap and of the gain, tested at 1 %.

The same picture from elsewhere: faults around the stack are the same on every rung, and then no
rung is named.

It can't tell: what is wrong with the part it names (`cells_follow_equations`).
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.diagnostics.engine import answer
from tasks.diagnostics.finding import Check, Finding, Limit, exact
from tasks.diagnostics.measurements import ladder
from tasks.diagnostics.measurements.ladder import BEHIND, Ladder, rung_subject
from tasks.diagnostics.measurements.skill import REACHED
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotApplicableError, NotMeasuredError
from tasks.diagnostics.question import Limits, Question, quantity
from tasks.diagnostics.questions import (
    cells_follow_equations,
    gradients_survive_time,
    order_and_flow,
    residuals_add,
    states_start_clean,
)
from tasks.diagnostics.rungs import RUNGS
from tasks.diagnostics.stages import Stage

EXACT = (
    order_and_flow.QUESTION,
    residuals_add.QUESTION,
    states_start_clean.QUESTION,
    cells_follow_equations.QUESTION,
    gradients_survive_time.QUESTION,
)
"""Questions about the stack that need no training, and that decide; the others are told."""

LIMITS = {
    "red": Limit(0, "identities hold on every rung"),
    "gain": Limit(BEHIND, "half of the plain LSTM's gain, tested at 1 %"),
}
TAKEN: dict[str, Stage] = {"no_residual_no_norm": "residual"}
"""Where the fault is when learning starts at a rung; within the cells otherwise."""


@dataclass(frozen=True)
class Evidence:
    """Both ways down."""

    red: tuple[str, ...] = quantity("exact questions about the stack red for the full model")
    quiet_at: str = quantity("first rung at which all of them are quiet, '' for none")
    ladder: Ladder | None = None
    lacking: str = ""
    no_order: str = ""
    reds: tuple[str, ...] = quantity("rung: all its exact questions that are red", default=())


def measure(probe: Probe) -> Evidence:
    """Ask the exact questions down the rungs where one is red; then train."""
    probe.require("deep")
    reds = {
        rung: red_questions(Probe(rung_subject(probe, rung), seed=probe.seed), exact_questions())
        for rung in RUNGS
    }
    about = {question.id for question in EXACT}
    red = tuple(id for id in reds[RUNGS[0]] if id in about)
    quiet = (rung for rung in RUNGS[1:] if not set(red) & set(reds[rung]))
    quiet_at = next(quiet, "") if red else ""
    told = tuple(f"{rung}: {', '.join(found) or 'none'}" for rung, found in reds.items())
    try:
        # A rung with an exact fault needs no training to be told apart.
        trained = None if red else probe.evidence(ladder.measure)
        lacking, no_order = "a full model whose exact questions are quiet" if red else "", ""
    except NotMeasuredError as problem:
        trained, lacking, no_order = None, str(problem), ""
    except NotApplicableError as problem:
        trained, lacking, no_order = None, "", str(problem)
    return Evidence(red, quiet_at, trained, lacking, no_order, told)


def exact_questions() -> tuple[Question, ...]:
    """Return all questions that need no training, this one's own list among them."""
    from tasks.diagnostics.questions import QUESTIONS

    return tuple(question for question in QUESTIONS if question.mode == "exact")


def red_questions(probe: Probe, questions: tuple[Question, ...]) -> tuple[str, ...]:
    """Return the ids of the questions that find a fault."""
    return tuple(q.id for q in questions if answer(q, probe).verdict == "faulty")


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """Nothing to strip away, or the part that has to go."""
    found = evidence.ladder
    red = exact(
        "number of exact questions about the stack that are red and quiet on a lower rung",
        len(evidence.red) if evidence.quiet_at else 0,
        limits["red"],
        TAKEN.get(evidence.quiet_at, "cell"),
        f"look at what the rung {evidence.quiet_at or '-'} takes away, in xlstm_model",
        unit="questions",
        where=f"{', '.join(evidence.red)}; quiet from {evidence.quiet_at} down",
        explained_by=("causal", "batch", "state", "residual", "stochastic"),
    )
    learns = found is not None and found.plain >= REACHED
    proof = evidence.no_order
    if found is not None and not learns:
        proof = f"the plain LSTM gains too little to compare with ({found.plain:.2f} of counting's)"
    gap = Check(
        name="gain of the full model over popularity, per gain of the plain LSTM rung",
        value=found.full / found.plain if found is not None and learns else None,
        unit="",
        limit=limits["gain"],
        stage=TAKEN.get(found.starts_at, "cell") if found else "cell",
        rule="statistical",
        relation="at_least",
        p_value=found.p_behind if found is not None and learns else None,
        where=f"learning starts at the rung {found.starts_at}" if found else "",
        missing=evidence.lacking,
        proof=proof,
        essential=not evidence.red,
        explained_by=("learning_rate", "batching"),
        advice=(f"look at what the rung {found.starts_at if found else '-'} takes away",),
    )
    return QUESTION.finding(evidence, red, gap)


QUESTION = Question(
    id="strip_down_ladder",
    number="X25",
    title="Where does learning start as the xLSTM is stripped down, part by part?",
    stages=("cell", "residual"),
    mode="deep",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
