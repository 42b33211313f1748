"""A log whose best possible score is known, sent through the program with a plain GRU in it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch

from tasks.data.bayes import predict
from tasks.data.generator import Generator, parse_item_names
from tasks.data.synthetic import build_generator, sample_log
from tasks.diagnostics.measurements import cures
from tasks.diagnostics.measurements.count_models import gains
from tasks.diagnostics.measurements.reference_model import (
    gains_on_test,
    with_cross_entropy,
    with_reference,
)
from tasks.diagnostics.measurements.simple_models import spread
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotOfferedError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import RawLog

ITEMS, USERS, LENGTHS = 60, 300, (10, 30)
STEPS = 1000
LOOKS_EVERY = 125
REACHED = 0.6
"""Share of the best possible gain over popularity."""

RATES = (1.0, 10.0, 0.1)
SEEDS = 2


@dataclass(frozen=True)
class Anchor:
    """What a plain GRU reaches on a known log, by the program's own preparation and steps."""

    share: float = quantity("share of the best possible gain over popularity, worse of two seeds")
    best_rate: float = quantity("multiple of the program's learning rate that did best")
    best_possible: float = quantity("NDCG of an observer who knows the log's source")
    popularity: float = quantity("NDCG of popularity on the same log")
    steps: int = quantity("optimiser steps at most")


def measure(probe: Probe) -> Anchor:
    """Draw a log, prepare and train on it, and compare with the optimum counted from the log."""
    probe.require("deep")
    if probe.subject.prepare is None:
        raise NotOfferedError("prepare")
    generator = make_generator(probe.seed)
    log = draw_log(generator, probe.seed)
    best, popular = _known(generator, log)
    inner = _program(probe, log)
    shares: dict[float, float] = {}
    for rate in RATES:
        found = []
        for seed in range(probe.seed, probe.seed + SEEDS):
            found.append(_share(inner, seed, rate, best, popular))
            if found[-1] < REACHED:
                break
        shares[rate] = min(found)
        if shares[rate] >= REACHED:
            break
    rate = max(shares, key=shares.__getitem__)
    return Anchor(shares[rate], rate, best, popular, STEPS)


def make_generator(seed: int) -> Generator:
    """Return a source whose next item depends on the last one, with a little popularity."""
    return build_generator(
        num_items=ITEMS,
        num_tastes=1,
        mixture={"popularity": 0.2, "order1": 0.8},
        zipf_exponent=1.0,
        lag=2,
        branching=3,
        seed=seed,
    )


def draw_log(generator: Generator, seed: int) -> RawLog:
    """Return a log of the source."""
    low, high = LENGTHS
    pieces = sample_log(generator, num_users=USERS, min_length=low, max_length=high, seed=seed)
    frame = pl.concat(list(pieces))
    return RawLog(
        frame["user_id"].to_numpy().astype(str),
        frame["item_id"].to_numpy().astype(str),
        frame["timestamp"].to_numpy().astype(np.int64) * 1_000_000,
    )


def _known(generator: Generator, log: RawLog) -> tuple[float, float]:
    """Mean NDCG of the optimum and of popularity on every user's last event, from the log alone."""
    items = parse_item_names(log.item.tolist(), generator.num_items)
    order = np.lexsort((log.time, log.user))
    edges = np.flatnonzero(np.append(True, log.user[order][1:] != log.user[order][:-1]))
    parts = np.split(items[order], edges[1:])
    longest = max(map(len, parts))
    histories = np.zeros((len(parts), longest), dtype=np.int64)
    for row, part in enumerate(parts):
        histories[row, : len(part) - 1] = part[:-1]
    lengths = np.array([len(part) - 1 for part in parts])
    targets = np.array([part[-1] for part in parts])
    scores = predict(generator, histories, lengths)
    rows = np.arange(len(parts))
    ranks = (scores >= scores[rows, targets][:, None]).sum(axis=1)
    counts = np.bincount(items, minlength=generator.num_items)
    by_count = (counts >= counts[targets][:, None]).sum(axis=1)
    return float(gains(ranks).mean()), float(gains(by_count).mean())


def _program(probe: Probe, log: RawLog) -> Probe:
    """The program on the known log, with a GRU in the model's place."""
    subject = with_reference(probe, "gru").replace(log=log)
    if subject.declared.loss not in ("cross_entropy", "other"):
        # Samplers of negatives are bound to the program's own catalogue.
        subject = with_cross_entropy(subject)
    return Probe(subject, "deep", seed=probe.seed)


def _share(probe: Probe, seed: int, rate: float, best: float, popular: float) -> float:
    """Share of the best possible gain that one training reaches, the highest on the way."""
    model = probe.model(seed=seed)
    index = spread(len(probe.data.test))
    highest = -math.inf

    def look() -> bool:
        nonlocal highest
        if not all(bool(torch.isfinite(p).all()) for p in model.parameters()):
            return True
        value = float(gains_on_test(probe, model, index).mean()) if len(index) else -math.inf
        highest = max(highest, (value - popular) / (best - popular))
        return highest >= REACHED

    cures.run(probe, model, cures.Arm(STEPS, rate=rate), seed, look, every=LOOKS_EVERY)
    return highest if math.isfinite(highest) else -1.0
