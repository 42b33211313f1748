"""Are the reported test metrics those of the weights handed over?"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import quantity


@dataclass(frozen=True)
class ReportedTest:
    """Reported metrics beside those of another evaluation by the program's own code."""

    difference: float = quantity("largest difference of a test metric")
    num_metrics: int = quantity("metrics compared")
    num_examples: int = quantity("test examples")
    worst_metric: str = ""


def measure(probe: Probe) -> ReportedTest:
    """Evaluate the trained weights again."""
    trained = probe.subject.trained
    if trained is None:
        raise NotMeasuredError("a finished training; train the model, then run `assay diagnose`")
    reported = {name: v for name, v in trained.metrics.items() if name.startswith("test/")}
    if not reported or trained.ranks is not None:
        # Beside stored ranks stand metrics of several seeds, whose mean is no metric of one.
        raise NotMeasuredError("test metrics reported of this one training")
    examples = len(probe.data.test)
    if examples == 0:
        raise NotMeasuredError("test examples")
    with torch.no_grad():
        again = probe.ask(
            "evaluate",
            probe.subject.replace(ready=probe.prepared),
            probe.model(trained=True),
            "test",
        )
    shared = sorted(set(again) & set(reported))
    if not shared:
        raise NotMeasuredError(f"a reported metric that `evaluate` gives too: {sorted(again)}")
    differences = {name: abs(float(again[name]) - float(reported[name])) for name in shared}
    worst = max(shared, key=differences.__getitem__)
    return ReportedTest(differences[worst], len(shared), examples, worst)
