"""Faults of the architecture that any model can have."""

from __future__ import annotations

from torch import Tensor, nn

from tasks.diagnostics.subject import Subject
from tasks.faults.fault import Fault, change_model, first_embedding


def _centre_over_batch(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
    return output - output.mean(dim=0, keepdim=True)


def _average_over_time(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
    return output + output.mean(dim=1, keepdim=True)


def _with_hook(hook):
    def apply(subject: Subject) -> Subject:
        def change(model: nn.Module) -> nn.Module:
            first_embedding(model).register_forward_hook(hook)
            return model

        return change_model(subject, change)

    return apply


FAULTS = (
    Fault(
        id="batch_mean_removed",
        title="embeddings are centred over the batch, so users influence each other",
        layer="model",
        severity=1.0,
        source="averages over the batch in a public xLSTM implementation",
        expected=frozenset({"order_and_flow"}),
        stages=frozenset({"batch"}),
        apply=_with_hook(_centre_over_batch),
    ),
    Fault(
        id="time_mean_added",
        title="every position gets the mean over all positions, later ones included",
        layer="model",
        severity=1.0,
        source="averages over time in a public xLSTM implementation",
        expected=frozenset({"order_and_flow"}),
        stages=frozenset({"causal"}),
        apply=_with_hook(_average_over_time),
    ),
)
