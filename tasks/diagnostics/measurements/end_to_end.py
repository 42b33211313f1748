"""The reported metrics beside metrics recomputed from histories, plain inference and counting."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from tasks.data.prepared import EvaluationSplit, PackedSequences, PreparedData
from tasks.diagnostics.measurements.inference_oracle import expected_history
from tasks.diagnostics.measurements.metric_oracle import expected_metrics
from tasks.diagnostics.probe import Probe, shake_weights
from tasks.diagnostics.problems import NotMeasuredError, NotOfferedError, SubjectError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch

NUM_EXAMPLES = 96
TOLERANCE = 1e-4
"""Scores closer than this share of their spread may change places by rounding."""


@dataclass(frozen=True)
class EndToEnd:
    """Reported metrics outside the range that rounding of the recomputed ones allows."""

    largest_error: float = quantity("distance of a reported metric from the recomputed range")
    num_metrics: int = quantity("metrics compared")
    num_examples: int = quantity("test examples")
    by_parts: float | None = quantity("the same distance by the program's parts and a plain mean")
    worst_metric: str = ""


def measure(probe: Probe) -> EndToEnd:
    """Run the program's evaluation on some test examples, and do the same by hand."""
    subject = probe.subject
    if subject.evaluate is None:
        raise NotOfferedError("evaluate")
    data = probe.data
    # Cold targets are a miss by every policy and need no score.
    count = min(NUM_EXAMPLES, len(data.test))
    if count == 0:
        raise NotMeasuredError("test examples")
    small = dataclasses.replace(data, test=head(data.test, count))
    cut = subject.replace(ready=dataclasses.replace(probe.prepared, data=small))
    model = probe.model()
    shake_weights(model, probe.seed)
    torch.manual_seed(probe.seed)
    with torch.no_grad():
        reported = probe.ask("evaluate", cut, model, "test")
    best, worst = _ranks(probe, small.test)
    cutoffs = subject.declared.cutoffs
    high, low = expected_metrics(best, cutoffs), expected_metrics(worst, cutoffs)
    given = {name.removeprefix("test/"): value for name, value in reported.items()}
    errors = _errors(given, high, low)
    if not errors:
        raise NotMeasuredError(f"metrics named like test/ndcg_at_10; there are {sorted(reported)}")
    name = max(errors, key=lambda key: (errors[key] != errors[key], errors[key]))
    again = None
    if errors[name] != 0:
        again = _by_parts(probe, cut.prepared().data, model)
    return EndToEnd(
        largest_error=errors[name],
        num_metrics=len(errors),
        num_examples=count,
        by_parts=None if again is None else max(_errors(again, high, low).values(), default=None),
        worst_metric=name if errors[name] != 0 else "",
    )


def _errors(
    given: Mapping[str, float], high: Mapping[str, np.ndarray], low: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Distance of each metric from the range between the means of the worst and best ranks."""
    errors = {}
    for name in high:
        value = given.get(name)
        if value is not None:
            above, below = value - float(high[name].mean()), float(low[name].mean()) - value
            errors[name] = max(above, below, 0.0) if value == value else float("nan")
    return errors


def _by_parts(probe: Probe, data: PreparedData, model: nn.Module) -> dict[str, float] | None:
    """Means over examples of what histories, scores, ranks and metrics of the program give."""
    declared = probe.subject.declared
    index = np.arange(len(data.test))
    try:
        histories = probe.ask("make_histories", data, data.test, index, declared.max_seq_len)
        torch.manual_seed(probe.seed)
        with torch.no_grad():
            scores = probe.ask("score", model, *(torch.as_tensor(part) for part in histories))
        targets = torch.as_tensor(np.array(data.test.targets, dtype=np.int64))
        ranks = np.asarray(probe.ask("rank", scores, targets))
        values = probe.ask("metrics", ranks, declared.cutoffs)
    except (NotOfferedError, SubjectError):
        return None
    return {name: float(np.mean(value)) for name, value in values.items()}


def head(split: EvaluationSplit, count: int) -> EvaluationSplit:
    """Return the first examples of a split."""
    stop = int(split.extra.offsets[count])
    extra = PackedSequences(
        *(np.asarray(getattr(split.extra, n))[:stop] for n in ("items", "times", "rows")),
        np.asarray(split.extra.offsets)[: count + 1],
    )
    arrays = {
        name: np.asarray(getattr(split, name))[:count]
        for name in ("users", "targets", "target_times", "target_rows")
    }
    return dataclasses.replace(split, extra=extra, **arrays)


def _ranks(probe: Probe, split: EvaluationSplit) -> tuple[np.ndarray, np.ndarray]:
    """Best and worst rank of every target that rounding allows, by counting."""
    best, worst = [], []
    for example in range(len(split)):
        target = int(split.targets[example])
        items, times = expected_history(probe, split, example)
        if target < 1 or len(items) == 0:
            best.append(1 if target >= 1 else probe.data.num_items + 1)
            worst.append(probe.data.num_items + 1)
            continue
        ids = torch.from_numpy(items)[None]
        batch = Batch(ids, torch.ones_like(ids), ids > 0, torch.from_numpy(times)[None])
        scores = probe.replay(batch)[0, -1]
        own, slack = scores[target - 1], TOLERANCE * float(scores.std(correction=0))
        best.append(1 + int((scores > own + slack).sum()))
        worst.append(int((scores >= own - slack).sum()))
    return np.array(best), np.array(worst)
