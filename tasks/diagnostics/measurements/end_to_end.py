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
from tasks.diagnostics.subject import Batch, Subject

NUM_EXAMPLES = {"test": 96, "val": 32}
"""Examples of a split that are ranked by hand; both are evaluated by the same code."""

TOLERANCE = 1e-4
"""Scores closer than this share of their spread may change places by rounding."""


@dataclass(frozen=True)
class EndToEnd:
    """Reported metrics outside the range that rounding of the recomputed ones allows."""

    largest_error: float = quantity("distance of a reported metric from the recomputed range")
    num_metrics: int = quantity("metrics compared, over both splits")
    num_examples: int = quantity("examples, of both splits")
    by_parts: float | None = quantity("the same distance by the program's parts and a plain mean")
    worst_metric: str = ""


def measure(probe: Probe) -> EndToEnd:
    """Run the program's evaluation on some examples of each split, and do the same by hand.

    The program has evaluated other weights of the same model before, as it does after every epoch:
    whatever it keeps from then is not the metric of these weights.
    """
    subject = probe.subject
    if subject.evaluate is None:
        raise NotOfferedError("evaluate")
    # Cold targets are a miss by every policy and need no score.
    if len(probe.data.test) == 0:
        raise NotMeasuredError("test examples")
    splits = {
        name: head(getattr(probe.data, name), min(most, len(getattr(probe.data, name))))
        for name, most in NUM_EXAMPLES.items()
        if len(getattr(probe.data, name))
    }
    cut = subject.replace(
        ready=dataclasses.replace(probe.prepared, data=dataclasses.replace(probe.data, **splits))
    )
    model = probe.model()
    with torch.no_grad():
        for name in splits:
            probe.ask("evaluate", cut, model, name)
    shake_weights(model, probe.seed)
    found = {name: _compare(probe, cut, model, split) for name, split in splits.items()}
    number = sum(len(errors) for errors, _ in found.values())
    if not number:
        raise NotMeasuredError("metrics named like test/ndcg_at_10")
    errors = {f"{name}/{key}": e for name, (own, _) in found.items() for key, e in own.items()}
    worst = max(errors, key=lambda key: (errors[key] != errors[key], errors[key]))
    parts = [again for _, again in found.values() if again is not None]
    return EndToEnd(
        largest_error=errors[worst],
        num_metrics=number,
        num_examples=sum(len(split) for split in splits.values()),
        by_parts=max(parts, default=None),
        worst_metric=worst if errors[worst] != 0 else "",
    )


def _compare(
    probe: Probe, cut: Subject, model: nn.Module, split: EvaluationSplit
) -> tuple[dict[str, float], float | None]:
    """Return the error of each reported metric of a split, and the largest by the parts alone.

    The parts are tried where the report is off, to tell whether it is the counting that is wrong.
    """
    torch.manual_seed(probe.seed)
    with torch.no_grad():
        reported = probe.ask("evaluate", cut, model, split.name)
    best, worst = _ranks(probe, split)
    cutoffs = probe.subject.declared.cutoffs
    high, low = expected_metrics(best, cutoffs), expected_metrics(worst, cutoffs)
    given = {name.removeprefix(f"{split.name}/"): value for name, value in reported.items()}
    errors = _errors(given, high, low)
    if not any(error != 0 for error in errors.values()):
        return errors, None
    again = _by_parts(probe, cut.prepared().data, model, split)
    return errors, None if again is None else max(_errors(again, high, low).values(), default=None)


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


def _by_parts(
    probe: Probe, data: PreparedData, model: nn.Module, split: EvaluationSplit
) -> dict[str, float] | None:
    """Means over examples of what histories, scores, ranks and metrics of the program give."""
    declared = probe.subject.declared
    index = np.arange(len(split))
    try:
        histories = probe.ask("make_histories", data, split, index, declared.max_seq_len)
        torch.manual_seed(probe.seed)
        with torch.no_grad():
            scores = probe.ask("score", model, *(torch.as_tensor(part) for part in histories))
        targets = torch.as_tensor(np.array(split.targets, dtype=np.int64))
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
