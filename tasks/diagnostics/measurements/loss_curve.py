"""The recorded loss over epochs: finite, falling, levelled off?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.diagnostics.measurements.trends import mann_kendall, theil_sen
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError
from tasks.diagnostics.question import quantity

LOSS = "train/loss"
LEVEL = 0.05
"""Share of the whole fall made in the last quarter of the epochs, below which a loss is level."""

CREEP = 0.01
"""Share of the first loss by which the last quarter may still fall while the loss is level, as
long as it does not fall faster than before."""

STEADY = 0.3
"""Share of the fall in the last quarter of a steady descent, with room for noise: a quarter."""

FEWEST_EPOCHS = 8
"""Two epochs per quarter; fewer say nothing about levelling off."""

SLOW = 1e-3
"""Learning rate below this share of its peak moves nothing any more."""


@dataclass(frozen=True)
class LossCurve:
    """What the recorded epochs say."""

    num_epochs: int = quantity("epochs")
    not_finite: int = quantity("epochs whose loss is not finite")
    first: float = quantity("loss of the first epoch")
    last: float = quantity("loss of the last epoch")
    lowest: float = quantity("lowest loss of an epoch")
    slope: float = quantity("median change of the loss per epoch, Theil-Sen")
    tau: float = quantity("Kendall's tau of loss and epoch")
    p_of_rise: float = quantity("chance of such a rise if there were no trend, Mann-Kendall")
    late_share: float = quantity("share of the fall made in the last quarter")
    p_of_rebound: float = quantity("the same for the epochs from the lowest one on")
    slow_share: float | None = quantity("share of epochs at under 0.001 of the peak learning rate")
    stopped_by_validation: bool = quantity("training stopped because validation did")

    @property
    def levelled(self) -> bool:
        """Training went on until nothing more came of it, or came at a crawl."""
        if self.stopped_by_validation or self.num_epochs < FEWEST_EPOCHS:
            return self.stopped_by_validation
        late_fall = self.late_share * (self.first - self.lowest)
        creeps = late_fall <= CREEP * abs(self.first) and self.late_share <= STEADY
        return self.late_share <= LEVEL or creeps


def measure(probe: Probe) -> LossCurve:
    """Read the epochs of the finished training."""
    trained = probe.subject.trained
    if trained is None:
        raise NotMeasuredError("a finished training; train the model, then run `assay diagnose`")
    losses = column(trained.epochs, LOSS)
    if len(losses) == 0:
        raise NotMeasuredError(f"`{LOSS}` per epoch in the records of the training")
    return read_curve(
        losses,
        column(trained.epochs, "learning_rate"),
        stopped_by_validation=trained.record.get("stop_reason") == "patience",
    )


def read_curve(
    losses: np.ndarray, rates: np.ndarray, *, stopped_by_validation: bool = False
) -> LossCurve:
    """Describe a curve of one loss per epoch; epochs that are not finite are left out but one.

    >>> curve = read_curve(np.array([4.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]), np.ones(8))
    >>> curve.late_share, curve.levelled, curve.p_of_rebound
    (0.0, True, 1.0)
    """
    finite = losses[np.isfinite(losses)]
    kept = finite if len(finite) else np.zeros(1)
    fall = float(kept[0] - kept.min())
    quarter = max(1, len(kept) // 4)
    tau, p_of_rise = mann_kendall(kept)
    peak = float(rates.max()) if len(rates) else 0.0
    return LossCurve(
        num_epochs=len(losses),
        not_finite=len(losses) - len(finite),
        first=float(kept[0]),
        last=float(kept[-1]),
        lowest=float(kept.min()),
        slope=theil_sen(kept),
        tau=tau,
        p_of_rise=p_of_rise,
        late_share=max(0.0, float(kept[-1 - quarter] - kept[-1]) / fall)
        if fall > 0 and len(kept) > quarter
        else 0.0,
        p_of_rebound=mann_kendall(kept[int(kept.argmin()) :])[1],
        slow_share=float((rates < SLOW * peak).mean()) if peak > 0 else None,
        stopped_by_validation=stopped_by_validation,
    )


def column(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """Return one quantity of recorded rows, float64; rows without it are left out.

    >>> column([{"a": 1}, {}, {"a": None}, {"a": 2.5}], "a").tolist()
    [1.0, 2.5]
    """
    values = [row[name] for row in rows if isinstance(row.get(name), int | float)]
    return np.array(values, dtype=float)
