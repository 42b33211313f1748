"""Features that reach a weight matrix: how many never change, how many are saturated."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tasks.diagnostics.measurements.blocks import first_tensor
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.problems import NotMeasuredError, SubjectError
from tasks.diagnostics.question import quantity
from tasks.diagnostics.subject import Batch
from xlstm_model import SequenceRecommender

FULL = 0.99
"""A value of a function bounded by 1 above this has lost 98 % of its slope (tanh: 1 - 0.99^2)."""


@dataclass(frozen=True)
class ActivationRanges:
    """The worst inputs of any layer, over real positions of one batch."""

    constant_share: float = quantity("share of a layer's input features that never change")
    saturated_share: float = quantity("share of a layer's bounded inputs beyond +-0.99")
    num_layers: int = quantity("layers watched")
    num_positions: int = quantity("positions")
    constant_layer: str = ""
    saturated_layer: str = ""


def measure(probe: Probe) -> ActivationRanges:
    """Watch what every recurrent, linear or convolutional layer and the head read."""
    batch = probe.all_batches[0].rows(slice(0, 32))
    model = probe.model(trained=probe.subject.trained is not None)
    inputs = watch_inputs(probe, model, batch)
    if not inputs:
        raise NotMeasuredError("a layer that reads (B, S, D) features")
    constant, saturated = {}, {}
    for name, values in inputs.items():
        spread = values.std(dim=0, correction=0)
        scale = float(values.abs().mean())
        constant[name] = float((spread <= 1e-6 * scale).double().mean())
        # A norm over two features leaves only their order, as +-1.
        bounded = float(values.abs().max()) <= 1.0 + 1e-6 and values.shape[1] > 2
        saturated[name] = float((values.abs() > FULL).double().mean()) if bounded else 0.0
    dead = max(constant, key=constant.get)
    full = max(saturated, key=saturated.get)
    return ActivationRanges(
        constant_share=constant[dead],
        saturated_share=saturated[full],
        num_layers=len(inputs),
        num_positions=int(batch.mask.sum()),
        constant_layer=dead,
        saturated_layer=full,
    )


def watch_inputs(probe: Probe, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Return what each weight-bearing layer reads at real positions: name -> (T, features).

    What the model's outermost parts give out is read, too: by the head, which may be no module.
    """
    found: dict[str, Tensor] = {}
    shape = tuple(batch.item_ids.shape)

    def watch(name: str):
        def hook(module: nn.Module, inputs: tuple) -> None:
            given = first_tensor(inputs)
            if given is None or not given.is_floating_point() or given.ndim < 3:
                return
            if tuple(given.shape[:2]) == shape:
                found[name] = given.detach()[batch.mask].flatten(1).double()

        return hook

    def given_out(name: str):
        def hook(module: nn.Module, inputs: tuple, output: object) -> None:
            watch(f"output of {name}")(module, (output,))

        return hook

    handles = [
        module.register_forward_hook(given_out(name))
        for name, module in model.named_children()
        if not isinstance(module, nn.Embedding)
    ]
    handles += [
        module.register_forward_pre_hook(watch(name))
        for name, module in model.named_modules()
        if any(True for _ in module.parameters(recurse=False))
        and not isinstance(module, nn.Embedding)
    ]
    try:
        with torch.no_grad():
            probe.logits(model, batch)
            if isinstance(model, SequenceRecommender):
                # Its head is no module: what it reads is what `encode` returns.
                hidden, _ = model.encode(batch.item_ids, mask=batch.mask, times=batch.times)
                watch("head")(model, (hidden,))
    except SubjectError:
        raise
    except Exception as error:
        raise SubjectError.of("logits", error) from error
    finally:
        for handle in handles:
            handle.remove()
    return found
