"""G4. Does padding stay out of scores, loss, gradients and ranks?

Reads: scores, loss and gradients of real rows with more padding, with other content behind the
mask, and the program's ranking when padding scores highest.

Rule: more padding changes no score of a real event and no loss; what stands behind the mask
changes neither; the padding row of the item embedding gets no gradient; padding takes no rank, and
no padded position asks for an item. Identities of a correct mask, tried with shaken weights.

Limits: float32 rounding, which differs a little between batch widths: below 1e-6 of the spread of
the scores; 1e-4 leaves two orders. Healthy models measured 0 to 3e-7.

The same picture from elsewhere: a model that sees the future sees right-hand padding too, which is
the future's fault; a loss that is wrong anyway is not blamed on padding. So are randomness and
influence between rows.

It can't tell: whether sequences are padded on the side that suits the model
(`variable_lengths_consistent`).
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.diagnostics.finding import Check, Finding, Limit, exact
from tasks.diagnostics.measurements import batch_format, metric_oracle, padding_swap
from tasks.diagnostics.measurements.padding_swap import PaddingSwap
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotOfferedError
from tasks.diagnostics.question import Limits, Question, quantity

LIMITS = {
    "scores": Limit(1e-4, "identity; float32 rounding stays below 1e-6"),
    "loss": Limit(1e-4, "identity; float32 rounding stays below 1e-6"),
    "gradient": Limit(1e-6, "identity; the padding row takes part in nothing"),
    "ranks": Limit(0, "identity; padding is no item"),
    "targets": Limit(0, "identity; nothing follows an event that is none"),
    "mask": Limit(0, "identity; a position is real exactly where it holds an item"),
}


@dataclass(frozen=True)
class Evidence:
    """What padding changes."""

    swap: PaddingSwap
    mask_mismatches: int = quantity("positions where mask and item id disagree")
    padded_targets: int = quantity("positions that ask for an item though their input is padding")
    moved_ranks: float | None = quantity("share of ranks that a high padding score changes")


def measure(probe: Probe) -> Evidence:
    """Collect scores, loss and gradients under changed padding."""
    try:
        moved = probe.evidence(metric_oracle.measure).moved_by_padding
    except NotOfferedError:
        moved = None
    return Evidence(
        swap=probe.evidence(padding_swap.measure),
        mask_mismatches=probe.evidence(batch_format.measure).padding_mismatches,
        padded_targets=probe.evidence(batch_format.measure).padded_targets,
        moved_ranks=moved,
    )


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """Nothing may change."""
    return QUESTION.finding(
        evidence, *_influence(evidence.swap, limits), *_positions_and_ranks(evidence, limits)
    )


def _influence(swap: PaddingSwap, limits: Limits) -> list[Check]:
    """What padding changes in scores, loss and gradients."""
    mixed = ("causal", "batch", "stochastic", "state", "encode")
    unit = "standard deviations of the logits"
    return [
        exact(
            "largest change of a real score by more padding",
            swap.by_more_padding,
            limits["scores"],
            "pad",
            "mask padded positions before anything that mixes positions",
            unit=unit,
            explained_by=mixed,
        ),
        _optional(
            "largest change of a real score by what stands in the padding",
            swap.by_padding_content,
            limits["scores"],
            "left padding hides behind the program's own mask",
            "hand the mask to every part that mixes positions",
            unit=unit,
            explained_by=mixed,
        ),
        _optional(
            "relative change of the loss by padding columns",
            swap.loss_change,
            limits["loss"],
            "the program offers no loss to try",
            "select valid positions before the mean, or use ignore_index for padding",
            stage="loss",
            explained_by=("stochastic", "batch"),
        ),
        _optional(
            "gradient of the padding row over the largest row gradient",
            swap.row_gradient,
            limits["gradient"],
            "no gradient by an item embedding",
            "set padding_idx=0 on the embedding and leave padded positions out of the loss",
            explained_by=("loss", *mixed),
        ),
    ]


def _positions_and_ranks(evidence: Evidence, limits: Limits) -> list[Check]:
    """Where padding is taken for an event or an item."""
    return [
        exact(
            "number of positions where mask and item id disagree",
            evidence.mask_mismatches,
            limits["mask"],
            "pad",
            "derive the mask from the lengths once and use it everywhere",
            unit="positions",
            explained_by=("encode",),
        ),
        exact(
            "number of padded positions that ask for an item",
            evidence.padded_targets,
            limits["targets"],
            "pad",
            "give padded positions the target 0, or leave them out of the loss by the mask",
            unit="positions",
            explained_by=("encode", "format"),
        ),
        _optional(
            "share of ranks that a high padding score changes",
            evidence.moved_ranks,
            limits["ranks"],
            "the program offers no ranking to try",
            "leave column 0 out of the ranking (tasks/evaluation/ranking.py)",
            stage="metric",
        ),
    ]


def _optional(
    name: str,
    value: float | None,
    limit: Limit,
    proof: str,
    advice: str,
    *,
    stage: str = "pad",
    unit: str = "",
    explained_by: tuple = (),
) -> Check:
    return exact(
        name,
        value,
        limit,
        stage,
        advice,
        unit=unit,
        proof=proof if value is None else "",
        explained_by=explained_by,
    )


QUESTION = Question(
    id="padding_handled",
    number="G4",
    title="Does padding stay out of scores, loss, gradients and ranks?",
    stages=("pad", "loss", "metric"),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
