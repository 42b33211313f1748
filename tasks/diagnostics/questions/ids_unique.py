"""G7. Does every item have exactly one id, and every id exactly one item?

Reads: the encoded item of every event in every split, joined with its row of the raw log; the
vocabulary; a second preparation with a 0 behind every item's name.

Rule: raw items and ids are in one-to-one relation; the vocabulary names the raw item of each event;
no label occurs twice; longer names in the same order give the same ids (ids that follow a hash do
not, and change with the process). Exact.

Limits: zero.

The same picture from elsewhere: an item column permuted against its rows also decodes wrongly; it
breaks the relation in both directions at once (`events_in_time_order`, `inputs_match_targets`).

It can't tell: whether two raw ids mean one thing in the world.
"""

from __future__ import annotations

from tasks.diagnostics.finding import Finding, Limit, exact
from tasks.diagnostics.measurements import id_map
from tasks.diagnostics.measurements.id_map import IdMap
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Limits, Question

LIMITS = {"count": Limit(0, "identity: a one-to-one relation")}


def measure(probe: Probe) -> IdMap:
    """Pair ids with raw items."""
    return probe.evidence(id_map.measure)


def judge(evidence: IdMap, limits: Limits) -> Finding:
    """No item with two ids, no id with two items."""
    limit = limits["count"]
    several = exact(
        "number of ids that stand for several raw items",
        evidence.ids_with_several_raws,
        limit,
        "encode",
        "number distinct raw ids instead of hashing them (tasks/data/encoding.py)",
        unit="ids",
        where=evidence.first_collision,
        explained_by=("order",),
    )
    split = exact(
        "number of raw items with several ids",
        evidence.raw_with_several_ids,
        limit,
        "encode",
        "build one vocabulary before the log is split",
        unit="items",
        explained_by=("order",),
    )
    labels = exact(
        "number of events whose vocabulary entry is another raw item, or that has none",
        evidence.label_disagreements + evidence.out_of_range + evidence.repeated_labels,
        limit,
        "encode",
        "save the vocabulary that encoded these events",
        unit="events",
        explained_by=("order",),
    )
    again = exact(
        "dependence of ids on the spelling of names in the same order",
        None if evidence.differs_when_renamed is None else int(evidence.differs_when_renamed),
        limit,
        "encode",
        "sort raw ids before numbering them; no sets, no hash()",
        missing="`prepare`, to run it a second time",
        essential=False,
        explained_by=("stochastic",),
    )
    return QUESTION.finding(evidence, several, split, labels, again)


QUESTION = Question(
    id="ids_unique",
    number="G7",
    title="Does every item have exactly one id, and every id exactly one item?",
    stages=("encode",),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
