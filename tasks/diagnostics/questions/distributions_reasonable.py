"""G5. Are the data such that a metric can tell models apart, and is test like training?

Reads: counts of items, users and events of the prepared data; test targets; every user's last
training event.

Rule: the K most popular items hold less than 95 % of the test targets, or popularity alone scores
almost full marks and Hit@K can't tell models apart (a count, exact). Popularity of test targets is
not far from that of users' last training events (chi-square over ten groups of items of equal mass,
with a large floor of the effect: some drift is what recommending is about). Many cold targets, one
item that is most of the targets, and many events equal to the one before in item and time are
suspect.

Limits: 95 %: less than one user in twenty is left to tell models apart. Drift of 0.5 in total
variation: half of the targets would have to be moved; public logs measured below 0.25. 20 % cold
targets are a fifth of the metric out of reach. Half of the targets on one item. 10 % duplicates. A
long tail is what catalogues look like and is never judged.

The same picture from elsewhere: another id map for test (`ids_unique`); events used twice
(`events_in_time_order`); a random split (`inputs_match_targets`).

It can't tell: whether the log is a fair sample of the world.
"""

from __future__ import annotations

from tasks.diagnostics.finding import Check, Finding, Limit, exact
from tasks.diagnostics.measurements import log_statistics
from tasks.diagnostics.measurements.log_statistics import LogStatistics
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Limits, Question

LIMITS = {
    "top_k": Limit(0.95, "above it, less than one user in twenty tells models apart"),
    "drift": Limit(0.5, "half of the targets moved; public logs stay below 0.25"),
    "cold": Limit(0.2, "a fifth of the metric out of every model's reach"),
    "one_item": Limit(0.5, "above it, one item is most of the answers"),
    "duplicates": Limit(0.1, "logs of single actions hold next to none"),
}
EARLIER = ("order", "time", "encode", "format", "split")


def measure(probe: Probe) -> LogStatistics:
    """Count."""
    return probe.evidence(log_statistics.measure)


def judge(evidence: LogStatistics, limits: Limits) -> Finding:
    """Something to tell apart; test like training."""
    top_k = exact(
        f"share of test targets among the {evidence.cutoff} most popular items",
        evidence.top_k_share,
        limits["top_k"],
        "distribution",
        "judge by a smaller K, or by more users and items: this metric is full by itself",
        unit="of targets",
        explained_by=EARLIER,
    )
    drift = Check(
        name="total variation between popularity of last training events and of test targets",
        value=evidence.drift,
        unit="",
        limit=limits["drift"],
        stage="distribution",
        rule="statistical",
        p_value=evidence.p_of_drift,
        explained_by=EARLIER,
        advice=("compare the most frequent test targets with the most frequent training items",),
    )
    cold = _told(
        "share of test targets without a training event",
        evidence.cold_share,
        limits["cold"],
        "set data.vocabulary and data.cold_targets to what the metric is meant to say",
    )
    one_item = _told(
        "share of test targets that are one and the same item",
        evidence.top_item_share,
        limits["one_item"],
        "look at that item in the log: a default, a start page, a placeholder?",
    )
    duplicates = _told(
        "share of training events equal to the one before in user, item and time",
        evidence.duplicate_share,
        limits["duplicates"],
        "set data.duplicates to drop",
    )
    return QUESTION.finding(evidence, top_k, drift, cold, one_item, duplicates)


def _told(name: str, value: float, limit: Limit, advice: str) -> Check:
    return Check(
        name=name,
        value=value,
        unit="of targets" if "targets" in name else "of events",
        limit=limit,
        stage="distribution",
        rule="descriptive",
        breach="suspect",
        explained_by=EARLIER,
        advice=(advice,),
    )


QUESTION = Question(
    id="distributions_reasonable",
    number="G5",
    title="Are the data such that a metric can tell models apart, and is test like training?",
    stages=("distribution",),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
)
