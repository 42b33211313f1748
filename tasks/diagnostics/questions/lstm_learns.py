"""X24. Does a plain LSTM in the model's place learn, and does the model keep up with it?

Reads: ranks of test users by a plain LSTM of the model's width, trained by the program's own
batches, loss, optimiser and steps; ranks by the finished training. Deep: one training, and five
where the model is far behind.

Rule: where the LSTM gains over popularity, the model makes at least half of that gain. A model that
does not gets four times the steps on two seeds; if the better of these is still behind (paired over
users, against the mean of two LSTMs), the fault lies within the model. Less than nine tenths is
suspect. An LSTM that gains nothing is suspect too: short budgets do that, and
`baseline_confirms_pipeline` tells them from a broken pipeline.

Limits: half of the gain after four times the steps: no healthy model measured was behind by that
much. Nine tenths: more than the seeds differ by. A quarter of the gain of transition counts for the
LSTM, as in `validation_improves`.

The same picture from elsewhere: a learning rate that suits the LSTM alone.

It can't tell: which part of the model is at fault (`strip_down_ladder`).
"""

from __future__ import annotations

from tasks.diagnostics.finding import Check, Finding, Limit
from tasks.diagnostics.measurements import plain_lstm
from tasks.diagnostics.measurements.plain_lstm import HALF, PlainLSTM
from tasks.diagnostics.measurements.skill import REACHED
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Limits, Question

LIMITS = {
    "far": Limit(HALF, "half of the LSTM's gain, with four times its steps"),
    "near": Limit(0.9, "healthy models differ by less; more than seeds do"),
    "lstm": Limit(REACHED, "a quarter of what counting gains"),
}


def measure(probe: Probe) -> PlainLSTM:
    """Train an LSTM, and the model again where it is far behind."""
    return probe.evidence(plain_lstm.measure)


def judge(evidence: PlainLSTM, limits: Limits) -> Finding:
    """Both learn, and the model is not far behind."""
    learns = evidence.lstm >= limits["lstm"].value
    nothing = f"the LSTM gains too little to compare with ({evidence.lstm:.2f} of counting's gain)"
    best = evidence.share if evidence.longer_share is None else evidence.longer_share
    far = Check(
        name="gain over popularity after up to four times the steps, per gain of a plain LSTM",
        value=best,
        unit="",
        limit=limits["far"],
        stage="symptom",
        rule="statistical",
        relation="at_least",
        p_value=evidence.p_behind,
        proof="" if learns else nothing,
        advice=("see strip_down_ladder: it takes the model apart, one part at a time",),
    )
    near = Check(
        name="gain over popularity of the finished training, per gain of a plain LSTM",
        value=evidence.share,
        unit="",
        limit=limits["near"],
        stage="symptom",
        rule="descriptive",
        relation="at_least",
        breach="suspect",
        proof="" if learns else nothing,
        advice=("tune train.<model> with as many trials as the LSTM had",),
    )
    lstm = Check(
        name="gain of a plain LSTM over popularity, per gain of transition counts",
        value=evidence.lstm,
        unit="",
        limit=limits["lstm"],
        stage="symptom",
        rule="descriptive",
        relation="at_least",
        breach="suspect",
        advice=("see baseline_confirms_pipeline and batch_and_length_suit",),
    )
    return QUESTION.finding(evidence, far, near, lstm)


QUESTION = Question(
    id="lstm_learns",
    number="X24",
    title="Does a plain LSTM in the model's place learn, and does the model keep up with it?",
    stages=("symptom",),
    mode="deep",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
