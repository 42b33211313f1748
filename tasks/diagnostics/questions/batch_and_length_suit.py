"""G18. Do batches hold the events they should, and enough of them for stable steps?

Reads: the windows of an epoch beside the training sequences; the declared longest window; epochs on
record; in the deep mode, where a training has no skill, one of four times as many steps and one
with another seed.

Rule: no window is longer than declared; an epoch leaves out no more than 2 % of the pairs it should
hold, and no more than 2 % are of sequences it holds twice; no sequence is left out by three
epochs; no two batches have one seed (exact counts). An epoch should hold all pairs, or of each
sequence as many as a window does, whichever its long sequences show to be meant.

A training that its budget ended, not validation, while its loss was falling and before it learned
what it was shown, needs no less than a quarter of the gain of transition counts (paired over
users); less is suspect until another seed makes less too. Where it has less and four times as many
steps have half of it (two seeds), the length is the cause. One that ended before the declared
epochs though validation did not end it is suspect: it may have been stopped by hand.

Limits: 2 %: dropping the last incomplete batch of an epoch loses up to a batch of rows, which is
below that in all but tiny data sets; there the limit is one batch, where all batches are equally
large and no more sequences are incomplete than one holds. Such a batch, dropped by chance three
times running, leaves out a number of sequences that is known to five standard deviations. A quarter
of the gain of transition counts, as in `validation_improves`.

The same picture from elsewhere: windows that decode to nothing can't be counted as covered
(`formats_consistent`).

It can't tell: whether the batch size is a good one: the gradient noise scale is a model of SGD,
not a fact, and is reported by `batch_stabilises_training`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from tasks.diagnostics.finding import Check, Finding, Limit, Repeat, exact
from tasks.diagnostics.measurements import second_training, skill, trained_out, window_lengths
from tasks.diagnostics.measurements.cure_checks import (
    EARLIER,
    Remedies,
    cure_check,
    look_for_cures,
)
from tasks.diagnostics.measurements.epoch_coverage import one_batch
from tasks.diagnostics.measurements.skill import REACHED, Skill, of_skill
from tasks.diagnostics.measurements.window_lengths import WindowLengths
from tasks.diagnostics.probe import MAX_BATCHES, Probe
from tasks.diagnostics.problems import NotApplicableError, NotMeasuredError, NotOfferedError
from tasks.diagnostics.question import Limits, Question, quantity

LIMITS = {
    "lost": Limit(0.02, "an incomplete last batch may be dropped"),
    "twice": Limit(0.02, "a last batch may be filled up"),
    "never": Limit(0, "what a last batch dropped by chance leaves out three times running"),
    "seeds": Limit(0, "identity: a seed of its own for every batch"),
    "too_long": Limit(0, "declared longest window"),
    "epochs": Limit(0, "declared epochs, unless validation ends the training"),
    "longer": Limit(REACHED, "share below which a training counts as one without skill"),
    "unfinished": Limit(REACHED, "counting is the least to reach; healthy trainings pass 0.6"),
}


@dataclass(frozen=True)
class Evidence:
    """Window lengths, and how many batches make an epoch."""

    windows: WindowLengths
    num_batches: int = quantity("batches of an epoch")
    missing_epochs: int | None = quantity("declared epochs that were not made, for no reason")
    remedies: Remedies = field(default_factory=Remedies)
    skill: Skill | None = None
    finished: str = ""
    again: Repeat | None = None


def measure(probe: Probe) -> Evidence:
    """Count what windows hold, and epochs; try a longer training where there is no skill."""
    found, finished = _cut_short(probe)
    unfinished = found is not None and found.lacking and not finished
    return Evidence(
        windows=probe.evidence(window_lengths.measure),
        num_batches=len(probe.all_batches),
        missing_epochs=_missing_epochs(probe),
        remedies=look_for_cures(probe),
        skill=found,
        finished=finished,
        again=second_training.repeat(probe, skill.measure, of_skill) if unfinished else None,
    )


def _cut_short(probe: Probe) -> tuple[Skill | None, str]:
    """Return the skill of a training its budget cut short, or why there is none to judge."""
    trained = probe.subject.trained
    if trained is None or not probe.allows("after_training") or not trained.epochs:
        return None, ""
    if trained.record.get("stop_reason") == "patience":
        return None, "validation ended the training"
    try:
        found, state = probe.evidence(skill.measure), probe.evidence(trained_out.measure)
    except (NotMeasuredError, NotOfferedError, NotApplicableError):
        return None, ""
    if not found.learnable:
        return found, "transition counts rank no better than popularity"
    if state.fits_training or state.levelled:
        return found, "the training came to rest, or learned what it was shown"
    return found, ""


def _missing_epochs(probe: Probe) -> int | None:
    trained = probe.subject.trained
    if trained is None or not trained.epochs or "stop_reason" not in trained.record:
        return None
    if trained.record["stop_reason"] == "patience":
        return 0
    return max(0, probe.subject.declared.max_epochs - len(trained.epochs))


def _cured(evidence: Evidence) -> bool:
    return evidence.remedies.cures is not None and evidence.remedies.cures.cured_by("longer")


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """Nothing lost, nothing twice, nothing longer than declared."""
    windows = evidence.windows
    longer = exact(
        "inputs of the longest window beyond the declared length",
        max(0, windows.longest - windows.declared_longest),
        limits["too_long"],
        "batching",
        "cut histories to train.shared.max_seq_len",
        unit="events",
    )
    epochs = exact(
        "number of declared epochs that the finished training did not make",
        evidence.missing_epochs,
        limits["epochs"],
        "batching",
        "train as many epochs as train.shared.max_epochs says",
        unit="epochs",
        breach="suspect",
        missing="the records of a finished training",
        essential=False,
    )
    unfinished = Check(
        name="gain over popularity per gain of transition counts when the budget ended training",
        value=evidence.skill.share if evidence.skill else None,
        unit="",
        limit=limits["unfinished"],
        stage="batching",
        # The ranks are recomputed and the ending is on record; the test guards against few users.
        rule="oracle",
        relation="at_least",
        p_value=evidence.skill.p_below if evidence.skill and not evidence.finished else None,
        by_training=True,
        repeat=evidence.again,
        missing="the records of a finished training",
        proof=evidence.finished,
        essential=False,
        explained_by=(*EARLIER, "learning_rate", "core", "embedding", "metric", "inference"),
        advice=("raise train.shared.max_epochs, or lower train.shared.batch_size",),
    )
    more = dataclasses.replace(
        cure_check(
            evidence.remedies,
            "longer",
            "by four times as many steps",
            limits["longer"],
            "batching",
            "raise train.shared.max_epochs, or patience if it ended the training",
        ),
        breach="faulty" if _cured(evidence) else "suspect",
    )
    held = _held(evidence, limits)
    return QUESTION.finding(evidence, *held, longer, epochs, unfinished, more)


def _held(evidence: Evidence, limits: Limits) -> tuple[Check, ...]:
    """Every pair is held by an epoch, once, and by no epoch's noise of another one."""
    windows, epoch = evidence.windows, evidence.windows.coverage
    missing = f"an epoch of fewer than {MAX_BATCHES} batches"
    earlier = ("format", "order", "align", "encode")
    lost = exact(
        "share of training pairs that an epoch leaves out",
        windows.lost_share,
        one_batch(limits["lost"], evidence.num_batches, bool(epoch and epoch.batch_dropped)),
        "pad",
        "compare windows with train.shared.max_seq_len: are they cut shorter, or events skipped?",
        where=f"longest window {windows.longest}, declared {windows.declared_longest}",
        missing=missing,
        essential=False,
        explained_by=earlier,
    )
    twice = exact(
        "share of the pairs of an epoch that are of sequences it holds more than once",
        epoch.repeated_share if epoch else None,
        one_batch(limits["twice"], evidence.num_batches, bool(epoch and epoch.batch_filled)),
        "batching",
        "draw users without replacement: one that is drawn twice weighs twice",
        missing=missing,
        essential=False,
        explained_by=(*earlier, "split", "pad"),
    )
    never = exact(
        "number of training sequences that none of three epochs holds",
        epoch.never_seen if epoch else None,
        Limit(limits["never"].value + (epoch.by_chance if epoch else 0), limits["never"].source),
        "batching",
        "shuffle before an incomplete batch is dropped, anew in every epoch",
        unit="sequences",
        missing=f"{missing}, and the user of every row",
        essential=False,
        explained_by=earlier,
    )
    seeds = exact(
        "number of batches of two epochs whose seed another batch has",
        epoch.repeated_seeds if epoch else None,
        limits["seeds"],
        "batching",
        "derive a batch's seed from seed, epoch and number: noise that repeats is learned",
        unit="batches",
        missing=f"{missing}, and batches that bring a seed",
        essential=False,
    )
    return lost, twice, never, seeds


QUESTION = Question(
    id="batch_and_length_suit",
    number="G18",
    title="Do batches hold the events they should, and enough of them for stable steps?",
    stages=("pad", "batching"),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
