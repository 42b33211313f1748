"""How much is really dropped, while training and while scoring."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tasks.diagnostics.measurements.perturbation import largest_change, spread
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.question import quantity


@dataclass(frozen=True)
class DropoutRate:
    """Shares of values set to zero by dropout, counted value by value."""

    declared: float = quantity("declared rate")
    largest_rate: float = quantity("largest share dropped by any dropout in training mode")
    standard_error: float = quantity("standard error of that share")
    num_active: int = quantity("dropouts that dropped something in training mode")
    rate_in_eval: float = quantity("largest share dropped in eval mode")
    training_differs: float = quantity("standard deviations of the logits")
    kept_scale: float | None = quantity("what is kept over its input, times the share kept")


class _CountZeros(TorchDispatchMode):
    """Counts what native dropout and multiplied Bernoulli masks set to zero."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[tuple[float, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name == "native_dropout" and bool(args[2]):
            self._note(result[1])
        elif name in ("bernoulli", "bernoulli_"):
            self._note(result)
        return result

    def _note(self, mask: Tensor) -> None:
        kept = mask != 0
        self.rates.append((1.0 - float(kept.double().mean()), kept.numel()))


class _Layers:
    """Compares what dropout layers give with what they got, however they work inside."""

    def __init__(self, model: nn.Module) -> None:
        self.rates: list[tuple[float, int]] = []
        self.scales: list[float] = []
        layers = [m for m in model.modules() if isinstance(m, nn.Dropout)]
        self._handles = [layer.register_forward_hook(self._note) for layer in layers]

    def _note(self, layer: nn.Module, inputs: tuple, output: Tensor) -> None:
        given = inputs[0]
        there = given != 0
        if not isinstance(output, Tensor) or output.shape != given.shape or not bool(there.any()):
            return
        kept = (output[there] / given[there]).double()
        share = float((kept != 0).double().mean())
        self.rates.append((1.0 - share, kept.numel()))
        if 0 < share < 1:
            self.scales.append(float(kept[kept != 0].median()) * share)

    def stop(self) -> None:
        for handle in self._handles:
            handle.remove()


def measure(probe: Probe) -> DropoutRate:
    """Run forward passes in both modes; count zeros at the source of randomness and in layers."""
    batch = probe.all_batches[0].rows(slice(0, 16))
    model = probe.model()
    training, eval_mode = _CountZeros(), _CountZeros()
    with torch.no_grad():
        model.train()
        torch.manual_seed(probe.seed)
        layers = _Layers(model)
        with training:
            first = probe.logits(model, batch)[..., 1:].double()
        layers.stop()
        torch.manual_seed(probe.seed + 1)
        second = probe.logits(model, batch)[..., 1:].double()
        model.eval()
        with eval_mode:
            probe.logits(model, batch)
    active = [(rate, size) for rate, size in (*training.rates, *layers.rates) if rate > 0]
    rate, size = max(active, default=(0.0, 1))
    declared = probe.subject.declared.dropout
    unit = spread(first, batch.mask)
    return DropoutRate(
        declared=declared,
        largest_rate=rate,
        standard_error=math.sqrt(max(declared * (1 - declared), 1e-12) / size),
        num_active=len(active),
        rate_in_eval=max((rate for rate, _ in eval_mode.rates), default=0.0),
        training_differs=largest_change(first, second, batch.mask, unit),
        kept_scale=max(layers.scales, key=lambda scale: abs(scale - 1), default=None),
    )


def dropout_modules(model: nn.Module) -> list[nn.Module]:
    """Return the model's dropout layers."""
    return [m for m in model.modules() if isinstance(m, nn.modules.dropout._DropoutNd)]
