"""The best possible scores on the synthetic log: the observer who knows the generator.

The observer sees a user's history but not the taste z, whose posterior follows by Bayes' rule:

    p(z | x_1 .. x_n)  is proportional to  p(z) prod_t p(x_t | x_1 .. x_{t-1}, z)
    p(j | x_1 .. x_n)  =  sum_z p(z | x_1 .. x_n) p(j | x_1 .. x_n, z)

Ranking by the second line maximises the expected Hit@K and NDCG@K for every K, since both reward
one target by a weight that falls with its rank.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks.data.generator import TABLES, Generator

POPULARITY, TASTE = 0, 1
TABLE_COLUMN = {name: 2 + position for position, name in enumerate(TABLES)}


def taste_posterior(
    generator: Generator, items: np.ndarray, lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Infer the taste of every user, and the state their history ends in.

    Args:
        generator: The distribution.
        items: (B, S) int64, items 0 .. V - 1, right-padded with anything in that range.
        lengths: (B,) int64.

    Returns:
        Posterior (B, K) float64, rows sum to 1; state (B,) int64. A history the generator can't
        produce (one that was filtered, say) keeps what the possible events before it told.
    """
    log_posterior = np.tile(np.log(generator.taste_prior), (len(items), 1))
    state = np.zeros(len(items), dtype=np.int64)
    tastes = np.arange(generator.num_tastes)
    for n in range(int(lengths.max(initial=0))):
        active = np.flatnonzero(lengths > n)
        seen, at = items[active], np.full(len(active), n)
        item = seen[:, n]
        weights = generator.mixture_at(np.array([n]))[0]
        shared = weights[POPULARITY] * generator.popularity[item]
        for name in TABLES:
            weight = weights[TABLE_COLUMN[name]]
            if weight > 0:
                keys = generator.key(name, seen, at, state[active])
                shared = shared + weight * generator.tables[name].probability(keys, item)
        own = weights[TASTE] * generator.taste_probability[item]
        is_own = generator.item_taste[item][:, None] == tastes
        likelihood = shared[:, None] + own[:, None] * is_own
        with np.errstate(divide="ignore"):
            updated = log_posterior[active] + np.log(likelihood)
        possible = np.isfinite(updated).any(axis=1)
        log_posterior[active[possible]] = updated[possible]
        state[active] = generator.state_moves[item, state[active]]
    log_posterior -= log_posterior.max(axis=1, keepdims=True)
    posterior = np.exp(log_posterior)
    return posterior / posterior.sum(axis=1, keepdims=True), state


def predict(generator: Generator, items: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the exact distribution of the next item after each history.

    Args:
        generator: The distribution.
        items: (B, S) int64, items 0 .. V - 1, right-padded with anything in that range.
        lengths: (B,) int64, 0 for an empty history.

    Returns:
        (B, V) float64, rows sum to 1.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    if items.shape[1] == 0:
        items = np.zeros((len(items), 1), dtype=np.int64)
    posterior, state = taste_posterior(generator, items, lengths)
    weights = generator.mixture_at(lengths)
    scores = weights[:, [POPULARITY]] * generator.popularity
    if weights[:, TASTE].any():
        by_item = posterior[:, generator.item_taste] * generator.taste_probability
        scores += weights[:, [TASTE]] * by_item
    for name in TABLES:
        factor = weights[:, TABLE_COLUMN[name]]
        if factor.any():
            keys = generator.key(name, items, lengths, state)
            generator.tables[name].add_to(scores, keys, factor)
    return scores


def bayes_scores(generator: Generator, history: Sequence[int]) -> np.ndarray:
    """Return the distribution of the next item after one history, (V,) float64.

    Args:
        generator: The distribution.
        history: Items 0 .. V - 1, oldest first.
    """
    items = np.asarray(history, dtype=np.int64)[None, :]
    return predict(generator, items, np.array([len(history)]))[0]


def score_optimum(
    probabilities: np.ndarray, targets: np.ndarray, ks: Sequence[int]
) -> dict[str, np.ndarray]:
    """Score a ranking by the true distribution, per history.

    ``hit_rate_at_K`` and ``ndcg_at_K`` are those of the targets that were drawn (ties ranked
    worst, natural measure for models on the same targets). ``expected_...`` average over all
    targets that could have been drawn: the same ceiling without the noise of the draw.

    Args:
        probabilities: (B, V) distribution of the next item.
        targets: (B,) int64 item drawn; -1 counts as a miss.
        ks: Cut-offs.

    Returns:
        Metric name -> (B,) float64.
    """
    known = targets >= 0
    own = probabilities[np.arange(len(targets)), np.where(known, targets, 0)]
    rank = (probabilities >= own[:, None]).sum(axis=1)
    top = -np.sort(-probabilities, axis=1)
    gain = 1.0 / np.log2(np.arange(2, top.shape[1] + 2))
    metrics = {}
    for k in ks:
        hit = known & (rank <= k)
        metrics[f"hit_rate_at_{k}"] = hit.astype(np.float64)
        metrics[f"ndcg_at_{k}"] = np.where(hit, 1.0 / np.log2(rank + 1.0), 0.0)
        metrics[f"expected_hit_rate_at_{k}"] = top[:, :k].sum(axis=1)
        metrics[f"expected_ndcg_at_{k}"] = top[:, :k] @ gain[: top[:, :k].shape[1]]
    return metrics
