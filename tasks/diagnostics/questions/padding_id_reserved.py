"""X4. Is id 0 kept for padding, and has every other id its own embedding row?

Reads: encoded items of all splits, the size of the item embedding and its padding row.

Rule: no real event is encoded as 0, ids lie within 1..num_items and the largest is used, the
embedding has a row for each of them. Exact.

Limits: zero.

The same picture from elsewhere: items that nobody has in training leave ids unused; under a
vocabulary of the whole log that is declared and no fault.

It can't tell: what the padding row does in the model (`padding_handled`).
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.diagnostics.finding import Finding, Limit, exact
from tasks.diagnostics.measurements import embedding_table, id_map
from tasks.diagnostics.measurements.id_map import IdMap
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotApplicableError
from tasks.diagnostics.question import Limits, Question, quantity

LIMITS = {"count": Limit(0, "identity: 0 is padding, 1..num_items are items")}


@dataclass(frozen=True)
class Evidence:
    """Ids and embedding rows."""

    ids: IdMap
    missing_rows: int | None = quantity("ids without an embedding row")


def measure(probe: Probe) -> Evidence:
    """Compare ids with rows."""
    try:
        table = probe.evidence(embedding_table.measure)
        lacking = max(0, table.expected_rows - table.num_rows)
    except NotApplicableError:
        lacking = None
    return Evidence(ids=probe.evidence(id_map.measure), missing_rows=lacking)


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """0 is padding, and everything else has a row."""
    ids, limit = evidence.ids, limits["count"]
    padding = exact(
        "number of real events encoded as the padding id 0",
        ids.padding_ids,
        limit,
        "encode",
        "number items from 1, and give unknown items no id instead of 0",
        unit="events",
    )
    outside = exact(
        "number of events whose id lies outside 1..num_items",
        ids.out_of_range,
        limit,
        "encode",
        "take num_items from the vocabulary that encoded the events",
        unit="events",
    )
    rows = exact(
        "number of ids without an embedding row",
        evidence.missing_rows,
        limit,
        "encode",
        "make the embedding num_items + 1 rows large",
        unit="ids",
        proof="the model has no item embedding table" if evidence.missing_rows is None else "",
    )
    return QUESTION.finding(evidence, padding, outside, rows)


QUESTION = Question(
    id="padding_id_reserved",
    number="X4",
    title="Is id 0 kept for padding, and has every other id its own embedding row?",
    stages=("encode",),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
