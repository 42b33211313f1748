"""X18. Is a batch large enough to point somewhere, and small enough to leave steps?

Reads: rows per training batch; gradients of micro-batches on trained weights; in the deep mode,
where a training has no skill, the same training in batches an eighth and eight times as large.

Rule: batches have the declared number of rows, but the last of an epoch, which may be smaller
(exact). Where a training lacks skill and another batch size at as many passes over the data gives
it, the batch size is the cause (intervention, two seeds). The noise scale tr(S) / |G|^2 (McCandlish
et al. 2018) is a model of SGD, not a fact: a step of which less than a hundredth is signal is
suspect, and no more.

Limits: zero for rows. Signal share B / (B + noise scale) of 0.01, at the lower end of the noise
scale's 95 % interval: healthy trainings measured 0.1 and more. A cure reaches half of the gain of
transition counts.

The same picture from elsewhere: a learning rate too large for the batch (`learning_rate_suits`).

It can't tell: which of the sizes that work is best.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from tasks.diagnostics.finding import Check, Finding, Limit, exact
from tasks.diagnostics.measurements import noise_scale
from tasks.diagnostics.measurements.cure_checks import (
    CURE_LIMIT,
    Remedies,
    cure_check,
    look_for_cures,
)
from tasks.diagnostics.measurements.noise_scale import NoiseScale
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError, NotOfferedError
from tasks.diagnostics.question import Limits, Question, quantity

LIMITS = {
    "rows": Limit(0, "declared rows of a batch"),
    "signal": Limit(0.01, "a step that is 99 % noise; healthy trainings measured 0.1 and more"),
    "cured": CURE_LIMIT,
}


@dataclass(frozen=True)
class Evidence:
    """Sizes of batches, and what a gradient holds."""

    wrong_batches: int = quantity("batches with another number of rows than declared")
    declared_rows: int = quantity("declared rows of a batch")
    typical_rows: float = quantity("median rows of a batch")
    is_stated: bool = quantity("the program says how many rows a batch has")
    noise: NoiseScale | None = None
    lacking: str = ""
    remedies: Remedies = field(default_factory=Remedies)


def measure(probe: Probe) -> Evidence:
    """Count rows, estimate noise, look for a cure by other sizes."""
    declared = probe.subject.declared
    rows = [len(batch.item_ids) for batch in probe.all_batches]
    # Any batch but the last of an epoch may be cut off by the reading limit, so it is not the last.
    wrong = [n for n in rows[:-1] if n != declared.batch_size]
    wrong += [n for n in rows[-1:] if n > declared.batch_size]
    try:
        noise, lacking = probe.evidence(noise_scale.measure), ""
    except (NotMeasuredError, NotOfferedError) as problem:
        noise, lacking = None, str(problem)
    return Evidence(
        wrong_batches=len(wrong),
        declared_rows=declared.batch_size,
        typical_rows=float(sorted(rows)[len(rows) // 2]),
        is_stated=declared.states("batch_size"),
        noise=noise,
        lacking=lacking,
        remedies=look_for_cures(probe),
    )


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """As declared, with some signal, and no better at another size."""
    rows = exact(
        "number of batches with another number of rows than declared",
        evidence.wrong_batches,
        limits["rows"],
        "batching",
        "pass train.shared.batch_size on to what makes batches",
        unit="batches",
        where=f"{evidence.typical_rows:g} rows, declared {evidence.declared_rows}",
        proof="" if evidence.is_stated else "nothing is declared about rows per batch",
    )
    noise, size = evidence.noise, max(evidence.typical_rows, 1.0)
    is_known = noise is not None and math.isfinite(noise.low)
    signal = Check(
        name="share of signal in an optimiser step, upper end",
        value=size / (size + noise.low) if noise is not None and is_known else None,
        unit="",
        limit=limits["signal"],
        stage="batching",
        rule="descriptive",
        relation="at_least",
        breach="suspect",
        missing=evidence.lacking or "a gradient that stands out of its noise",
        essential=False,
        advice=("raise train.shared.batch_size, or accumulate gradients",),
    )
    smaller = cure_check(
        evidence.remedies,
        "smaller_batches",
        "by batches an eighth as large",
        limits["cured"],
        "batching",
        "lower train.shared.batch_size by a factor of 8",
    )
    larger = cure_check(
        evidence.remedies,
        "larger_batches",
        "by batches eight times as large",
        limits["cured"],
        "batching",
        "raise train.shared.batch_size by a factor of 8",
    )
    return QUESTION.finding(evidence, rows, signal, smaller, larger)


QUESTION = Question(
    id="batch_stabilises_training",
    number="X18",
    title="Is a batch large enough to point somewhere, and small enough to leave steps?",
    stages=("batching",),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
