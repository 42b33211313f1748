"""G10. Do item embeddings start well, tell items apart, and move when trained?

Reads: the embedding table before training, scores after single-event histories, the initial loss,
and three optimiser steps of the program.

Rule: no two items share a row, none reads padding's, looking rows up does not change them, the
model tells items apart, the table takes a gradient and is in the optimiser, every row of an item
that was input moves, the padding row does not; the initial cross-entropy is near ln(number of
items). Exact but for the last.

Limits: the expected initial loss is ln V + var(logits) / 2; one nat above ln V means logits with a
standard deviation of 1.4 before anything was learned, 0.1 below means knowledge of the targets.

The same picture from elsewhere: a core that drops its input also makes items alike
(`order_and_flow`); an optimiser that never steps leaves every row where it was
(`gradients_flow`).

It can't tell: rows of items that no window holds. With a tied head and a full softmax even unseen
rows move, which is right.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.diagnostics.finding import Check, Finding, Limit, exact
from tasks.diagnostics.measurements import embedding_lookup, embedding_table, step_trace
from tasks.diagnostics.measurements.embedding_lookup import EmbeddingLookup
from tasks.diagnostics.measurements.embedding_table import EmbeddingTable
from tasks.diagnostics.measurements.step_trace import StepTrace
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Limits, Question

LIMITS = {
    "count": Limit(0, "identity: rows are distinct and follow their own events"),
    "same": Limit(0.01, "identity; 1 % covers equal rows by rounding in tiny models"),
    "excess": Limit(1.0, "E[cross-entropy] = ln V + var/2: one nat is a logit deviation of 1.4"),
    "deficit": Limit(-0.1, "an untrained model knows nothing of its targets"),
}

NEARLY_ALL = 0.9


@dataclass(frozen=True)
class Evidence:
    """The table at the start and after three steps."""

    table: EmbeddingTable
    lookup: EmbeddingLookup
    steps: StepTrace


def measure(probe: Probe) -> Evidence:
    """Look at the table, make three steps."""
    return Evidence(
        table=probe.evidence(embedding_table.measure),
        lookup=probe.evidence(embedding_lookup.measure),
        steps=probe.evidence(step_trace.measure),
    )


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """Distinct, telling, moving rows and a sane first loss."""
    table, steps = evidence.table, evidence.steps
    return QUESTION.finding(
        evidence,
        *_rows(table, evidence.lookup, limits),
        *_first_scores(table, limits),
        *_movement(table, steps, limits),
    )


def _rows(table: EmbeddingTable, lookup: EmbeddingLookup, limits: Limits) -> list[Check]:
    """Every item has a row of its own, and looking rows up leaves them alone."""
    return [
        exact(
            "number of items that share their embedding row with another item",
            table.repeated_rows,
            limits["count"],
            "embedding",
            "initialise rows at random, not with a constant",
            unit="items",
        ),
        exact(
            "number of items that are looked up where padding is",
            lookup.like_padding,
            limits["count"],
            "embedding",
            "look items up by their id: row 0 is padding's, row 1 the first item's",
            unit="items",
            missing="an item embedding that is called with ids",
            essential=False,
        ),
        exact(
            "number of embedding rows that looking items up changes",
            lookup.rows_written,
            limits["count"],
            "embedding",
            "leave weights to the optimiser: constrain rows after its step, and all of them",
            unit="rows",
            comes_first=True,
            missing="an item embedding that is called with ids",
            essential=False,
        ),
    ]


def _first_scores(table: EmbeddingTable, limits: Limits) -> list[Check]:
    """The untrained model tells items apart and knows no targets."""
    return [
        exact(
            "share of items the untrained model can't tell from another one",
            table.same_scores,
            limits["same"],
            "core" if _dropped(table) else "embedding",
            "check for a clamp, a hash or a wrong index before the embedding",
            unit="of items",
            proof=""
            if table.width > 2
            else f"width {table.width} can't keep items apart in a norm",
            explained_by=("activation", "cell", "numeric"),
        ),
        exact(
            "initial cross-entropy above ln(number of items)",
            table.initial_excess,
            limits["excess"],
            "embedding",
            "lower the initial scale of the embedding or the head (standard deviation 0.02)",
            unit="nats",
        ),
        exact(
            "initial cross-entropy relative to ln(number of items)",
            table.initial_excess,
            limits["deficit"],
            "align",
            "an untrained model scores its targets too well: look for the target in the input",
            unit="nats",
            relation="at_least",
            explained_by=("split", "causal"),
        ),
    ]


def _movement(table: EmbeddingTable, steps: StepTrace, limits: Limits) -> list[Check]:
    blocked = steps.moved_matrices == 0 or steps.embedding_has_gradient is False
    nothing_moves = ("optimiser", "gradient_flow", "loss", "core", "numeric") if blocked else ()
    return [
        exact(
            "item embeddings that take no gradient",
            int(not table.takes_gradient),
            limits["count"],
            "embedding",
            "set requires_grad=True on the item embedding",
        ),
        exact(
            "number of embedding rows of input items that did not move in three steps",
            steps.seen_rows_unmoved,
            limits["count"],
            "core" if _dropped(table) else "embedding" if not steps.missing else "optimiser",
            "check that the embedding is in the optimiser, not detached, and has no hook",
            unit="rows",
            missing="an item embedding among the parameters",
            explained_by=nothing_moves,
        ),
        exact(
            "padding rows that moved",
            None if steps.padding_row_moved is None else int(steps.padding_row_moved),
            limits["count"],
            "pad",
            "set padding_idx=0, and leave the padding row out of weight decay",
            missing="an item embedding among the parameters",
            proof=_padding_is_free(table),
            explained_by=("loss",),
        ),
    ]


def _dropped(table: EmbeddingTable) -> bool:
    """Distinct rows whose items all score alike: what follows the table drops its result."""
    return table.repeated_rows == 0 and table.same_scores > NEARLY_ALL


def _padding_is_free(table: EmbeddingTable) -> str:
    """A padding row that starts like any other is hidden by the mask and may decay or move."""
    return "" if table.padding_norm == 0 else "the padding row is not zero and hidden by the mask"


QUESTION = Question(
    id="embeddings_learn",
    number="G10",
    title="Do item embeddings start well, tell items apart, and move when trained?",
    stages=("embedding", "optimiser", "core", "align", "pad"),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
