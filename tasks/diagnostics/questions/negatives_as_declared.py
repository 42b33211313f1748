"""X17. Are negatives drawn as declared?

Reads: negatives for the batches of several epochs, 20,000 draws; training counts; each user's
training items.

Rule: every draw is an item, as many per set as declared, with the stated probability; a declared
exclusion of the user's own items leaves none of them in; draws are new for every batch and epoch,
and no group of items that 50 draws should fall on has none (exact). Where inputs and targets of a
batch are all set to one rare item, negatives are not that item (an intervention). Their
distribution is the declared one (chi-square over groups of items, with a floor for the distance;
where it seems to be another, draws with another seed have to show it too).
Not applicable where the loss equals the full cross-entropy, which is the proof.

Limits: fifty draws that are due miss a group with probability e^-50; a negative that is taken from
a batch of one item is that item, one from the catalogue with its own probability. Total variation
0.05 over 20 groups: 20,000 draws from the right distribution give 0.01. Stated probabilities are
logarithms in float32, 1e-3.

The same picture from elsewhere: training counts that include held-out events shift the declared
distribution (`inputs_match_targets`).

It can't tell: whether the declared distribution is a good one.
"""

from __future__ import annotations

from tasks.diagnostics.finding import Check, Finding, Limit, exact
from tasks.diagnostics.measurements import negatives
from tasks.diagnostics.measurements.negatives import Negatives
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import Limits, Question

LIMITS = {
    "count": Limit(0, "declared: items only, this many, none of the user's own"),
    "log_q": Limit(1e-3, "identity; float32 logarithms"),
    "follows": Limit(0.05, "above the item's own probability; draws don't follow the batch"),
    "repeats": Limit(0.5, "independent draws never coincide"),
    "distance": Limit(0.05, "20,000 right draws give 0.01 over 20 groups"),
}


def measure(probe: Probe) -> Negatives:
    """Draw and count."""
    return probe.evidence(negatives.measure)


def judge(evidence: Negatives, limits: Limits) -> Finding:
    """As declared, and fresh."""
    distribution = Check(
        name="total variation between drawn negatives and their declared distribution",
        value=evidence.total_variation,
        unit="",
        limit=limits["distance"],
        stage="negatives",
        rule="statistical",
        p_value=evidence.p_value,
        advice=("compare the sampler with train.shared.negatives and popularity_exponent",),
    )
    outside = exact(
        "number of draws that are no item, and of sets of another size than declared",
        evidence.outside + evidence.wrong_count,
        limits["count"],
        "negatives",
        "draw from 1..num_items, train.shared.num_negatives at a time",
    )
    own = exact(
        "number of draws that are the user's own item and not left out",
        evidence.unmarked_positives,
        limits["count"],
        "negatives",
        "exclude the user's training items, as train.shared.collisions says",
        unit="draws",
        proof="" if evidence.unmarked_positives is not None else "no such exclusion is declared",
    )
    stated = exact(
        "largest error of the stated log-probability of a negative",
        evidence.log_q_error,
        limits["log_q"],
        "negatives",
        "state ln q of the distribution that is drawn from",
    )
    fresh = exact(
        "share of batches whose negatives were drawn before",
        max(evidence.repeated_epochs, evidence.repeated_batches),
        limits["repeats"],
        "negatives",
        "seed draws by epoch and batch, not once",
    )
    never = exact(
        "number of groups of items never drawn where 50 draws were to be expected",
        evidence.never_drawn,
        limits["count"],
        "negatives",
        "draw from the whole catalogue: compare the sampler's range with 1..num_items",
        unit="groups",
    )
    follows = Check(
        name="share of draws that are the one item all inputs and targets were set to",
        value=evidence.follows_targets,
        unit="",
        limit=Limit(evidence.expected_share + limits["follows"].value, limits["follows"].source),
        stage="negatives",
        rule="intervention",
        advice=("draw from the declared distribution, not from the batch",),
    )
    return QUESTION.finding(evidence, outside, own, stated, fresh, never, follows, distribution)


QUESTION = Question(
    id="negatives_as_declared",
    number="X17",
    title="Are negatives drawn as declared?",
    stages=("negatives",),
    mode="exact",
    measure=measure,
    judge=judge,
    limits=LIMITS,
    owns=frozenset({"sample_negatives"}),
)
