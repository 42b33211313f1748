"""X21. Are ranks and metrics computed right, over the whole catalogue?

Reads: the program's ranking and metric code on made-up scores whose ranks are known: random ones,
perfect ones, constant ones, and ones where padding scores highest.

Rule: ranks and metric values equal independent ones on tie-free scores; a perfect score ranks
first; a score that is the same for every item gets no more hits than chance; padding takes no
rank; and reported metrics are those of plain inference and counting: where they are not, though the
program's histories, scores and ranks are, the counting is to blame. Exact, but for the constant
score under random tie-breaking, which is bounded by chance plus five standard errors.

Limits: ranks are integers and must agree; metric values are float64 sums of one term, 1e-9.

The same picture from elsewhere: ranking among sampled negatives; with `full_ranking: false`
declared the finding says so instead.

It can't tell: whether the histories and scores that go in are right (`head_reads_right_state`), nor
whether metrics improve while training (`validation_improves`).
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.diagnostics.finding import Check, Finding, Limit
from tasks.diagnostics.measurements import end_to_end, metric_oracle
from tasks.diagnostics.measurements.metric_oracle import MetricOracle
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError, NotOfferedError
from tasks.diagnostics.question import Limits, Question, quantity

LIMITS = {
    "ranks": Limit(0, "identity: a rank is 1 + the number of real items scored higher"),
    "reported": Limit(1e-6, "identity within the range that rounding of near-ties allows"),
    "metrics": Limit(1e-9, "identity; float64 of one term"),
}


@dataclass(frozen=True)
class Evidence:
    """The evaluator beside an independent one."""

    oracle: MetricOracle
    full_ranking: bool
    end_error: float | None = quantity("distance of a reported metric from the recomputed range")
    parts_error: float | None = quantity("the same distance by the program's parts, averaged here")
    worst_metric: str = ""
    no_end: str = ""


def measure(probe: Probe) -> Evidence:
    """Run the evaluator on scores with known ranks."""
    oracle = probe.evidence(metric_oracle.measure)
    full = probe.subject.declared.full_ranking
    try:
        end = probe.evidence(end_to_end.measure)
    except (NotOfferedError, NotMeasuredError) as error:
        return Evidence(oracle, full, None, None, no_end=str(error))
    return Evidence(oracle, full, end.largest_error, end.by_parts, end.worst_metric)


def judge(evidence: Evidence, limits: Limits) -> Finding:
    """Compare ranks, special scores and metric values."""
    oracle = evidence.oracle
    sampled = "" if evidence.full_ranking else "ranking among sampled items is declared"
    return QUESTION.finding(
        evidence,
        *_ranks(oracle, limits, sampled),
        *_metrics(oracle, limits, sampled),
        _reported(evidence, limits, sampled),
    )


def _ranks(oracle: MetricOracle, limits: Limits, sampled: str) -> list[Check]:
    """Ranks of scores that are known; `sampled` proves that full ranks are not to be had."""
    return [
        _rank_check(
            "share of random scores with another rank than sorting gives",
            oracle.wrong_ranks,
            limits,
            "rank among all real items, counting from 1 (tasks/evaluation/ranking.py)",
            proof=sampled,
        ),
        _rank_check(
            "share of perfect scores not ranked first",
            oracle.wrong_when_perfect,
            limits,
            "check whether ranks count from 0 or from 1",
        ),
        _rank_check(
            "share of ranks that a high padding score changes",
            oracle.moved_by_padding,
            limits,
            "leave column 0 out of the ranking",
        ),
    ]


def _rank_check(name: str, value: float, limits: Limits, advice: str, proof: str = "") -> Check:
    return Check(
        name=name,
        value=value,
        unit="of rows",
        limit=limits["ranks"],
        stage="metric",
        rule="oracle",
        proof=proof,
        advice=(advice,),
    )


def _metrics(oracle: MetricOracle, limits: Limits, sampled: str) -> tuple[Check, Check]:
    """The metric of a constant score, and those of known ranks."""
    constant = Check(
        name="hit rate at 10 of a score that is the same for every item",
        value=oracle.constant_hit_rate,
        unit="",
        limit=Limit(oracle.chance_hit_rate, "10 of 50 items by chance, plus 5 standard errors"),
        stage="metric",
        rule="oracle",
        proof=sampled,
        advice=("rank ties worst: count items with score >= the target's, not only >",),
    )
    by_definition = Check(
        name="largest difference of a metric from its definition",
        value=oracle.metric_error,
        unit="",
        limit=limits["metrics"],
        stage="metric",
        rule="oracle",
        where=oracle.worst_metric,
        advice=("compare with 1 / log2(rank + 1), 1 / rank and rank <= K",),
    )
    return constant, by_definition


def _reported(evidence: Evidence, limits: Limits, sampled: str) -> Check:
    """The program's metrics of its own model beside those of plain inference."""
    apart = evidence.parts_error
    parts_hold = apart is not None and apart <= limits["reported"].value
    return Check(
        name="distance of a reported metric from that of plain inference and counting",
        value=evidence.end_error,
        unit="",
        limit=limits["reported"],
        # Right in its parts and wrong in the end: it is the counting that is wrong.
        stage="metric" if parts_hold else "inference",
        rule="oracle",
        where=evidence.worst_metric,
        missing=evidence.no_end,
        proof=sampled,
        essential=False,
        explained_by=("metric", "split", "encode", "pad", "batch", "causal", "state", "stochastic"),
        advice=(
            "follow one test user from history to rank: which split, which position, which mean?",
        ),
    )


QUESTION = Question(
    id="ranking_metrics_right",
    number="X21",
    title="Are ranks and metrics computed right, over the whole catalogue?",
    stages=("metric", "inference"),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
    owns=frozenset({"rank", "metrics", "evaluate"}),
)
