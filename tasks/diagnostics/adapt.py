"""Calls torch modules of other people's: finds what they take and what they return."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tasks.diagnostics.layout import Layout
from tasks.diagnostics.measurements.padding_swap import item_embedding
from tasks.diagnostics.subject import Batch

MASK_NAMES = ("mask", "attention_mask", "padding_mask", "src_mask")
INVERTED_MASK_NAMES = ("key_padding_mask", "src_key_padding_mask", "pad_mask")
LENGTH_NAMES = ("lengths", "length", "seq_len", "seq_lens", "item_seq_len", "seq_lengths")
TIME_NAMES = ("times", "timestamps", "time")


class AdaptError(ValueError):
    """A module's arguments or results are of no known kind; the message says what to give."""


@dataclass(frozen=True)
class Adapter:
    """How to call a module with item ids (B, S) and read scores (B, S, V) from what it returns.

    Attributes:
        num_items: Items in the catalogue; V is one more, column 0 is padding.
        batch_first: The module takes and returns (B, S, ...), not (S, B, ...).
        call: Your own call, (module, batch) -> anything that holds scores; else arguments are found
            by their names. The batch is in the module's own layout.
        head: (module, hidden (B, S, D) or (B, D)) -> scores, for modules that return hidden states;
            else the item embedding scores them.
        layout: Side of padding and numbering of items; as in the pipeline where not given.
    """

    num_items: int
    batch_first: bool = True
    call: Callable[[nn.Module, Batch], Any] | None = None
    head: Callable[[nn.Module, Tensor], Tensor] | None = None
    layout: Layout | None = None

    def logits(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return scores (B, S, V) after every position.

        A module with one row of scores per history is called once per position, with what follows
        it as padding: as it is called when it is trained on one target per history.
        """
        scores = self._scores(module, batch)
        if scores.ndim == 3:
            return scores
        places = torch.arange(batch.item_ids.shape[1], device=batch.item_ids.device)
        last = [self._scores(module, _until(batch, places <= place)) for place in places]
        return torch.stack(last, dim=1)

    def last_scores(
        self, module: nn.Module, item_ids: Tensor, lengths: Tensor, times: Tensor
    ) -> Tensor:
        """Return scores (B, V) after each right-padded history's last event, as users would."""
        mask = torch.arange(item_ids.shape[1], device=item_ids.device) < lengths[:, None]
        scores = self._scores(module, Batch(item_ids, torch.zeros_like(item_ids), mask, times))
        if scores.ndim == 3:
            rows = torch.arange(len(item_ids), device=item_ids.device)
            scores = scores[rows, (lengths - 1).clamp(min=0)]
        scores = scores.clone()
        scores[:, 0] = -torch.inf
        return scores

    def _scores(self, module: nn.Module, batch: Batch) -> Tensor:
        layout = self.layout or Layout(self.num_items)
        given = layout.to_module(batch)
        if self.call is not None:
            result = self.call(module, given)
        else:
            ids = given.item_ids if self.batch_first else given.item_ids.T.contiguous()
            result = module(ids, **self._named(module, given))
        found = self._read(module, given, result)
        if found.ndim == 3 and not self.batch_first:
            found = found.transpose(0, 1)
        return layout.columns(layout.from_module(found, batch))

    def _named(self, module: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Arguments besides the item ids, by the names the module gives them."""
        known: dict[str, Tensor | None] = dict.fromkeys(MASK_NAMES, batch.mask)
        known |= dict.fromkeys(INVERTED_MASK_NAMES, ~batch.mask)
        known |= dict.fromkeys(LENGTH_NAMES, batch.lengths)
        known |= dict.fromkeys(TIME_NAMES, batch.times)
        parameters = list(inspect.signature(module.forward).parameters.values())[1:]
        given = {}
        for parameter in parameters:
            value = known.get(parameter.name)
            optional = parameter.default is not inspect.Parameter.empty
            variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            if value is not None:
                given[parameter.name] = value
            elif not optional and not variadic:
                raise AdaptError(
                    f"{type(module).__name__}.forward needs {parameter.name!r}, which is none of "
                    f"{', '.join((*MASK_NAMES[:2], *LENGTH_NAMES[:2], *TIME_NAMES[:1]))}. Give "
                    "diagnose(call=...), a function of the module and a Batch."
                )
        return given

    def _read(self, module: nn.Module, batch: Batch, result: Any) -> Tensor:
        """Pick the scores out of a result, or make them of hidden states."""
        tensors = [tensor for tensor in _floating(result) if self._fits(tensor, batch)]
        tensors.sort(key=lambda tensor: -tensor.ndim)
        hidden = [tensor for tensor in tensors if self._has_head(module, tensor)]
        if self.head is not None and hidden:
            return self.head(module, hidden[0])
        exact = (self.num_items, self.num_items + 1)
        scores = [tensor for tensor in tensors if tensor.shape[-1] in exact]
        if scores and hidden and scores[0] is hidden[0]:
            raise AdaptError(
                f"{type(module).__name__} returned {tuple(scores[0].shape)}: scores of "
                f"{self.num_items} items, or hidden states as wide as the item embedding? Give "
                "diagnose(num_items=...) another number, or diagnose(head=...)."
            )
        # Wider scores hold further ids, such as a mask token.
        scores += [] if hidden else [t for t in tensors if t.shape[-1] > self.num_items]
        if scores:
            return scores[0]
        if hidden:
            return self._score_hidden(module, hidden[0])
        shapes = [tuple(tensor.shape) for tensor in _floating(result)]
        raise AdaptError(
            f"{type(module).__name__} returned tensors of shapes {shapes}; expected scores "
            f"(B, S, {self.num_items + 1}) or (B, {self.num_items + 1}), or hidden states "
            "(B, S, D) or (B, D) as wide as the item embedding. Give diagnose(call=...) that "
            "returns scores, or diagnose(head=...) that makes them of hidden states."
        )

    def _fits(self, tensor: Tensor, batch: Batch) -> bool:
        shape = tuple(batch.item_ids.shape)
        if tensor.ndim == 2:
            return tensor.shape[0] == shape[0]
        expected = shape if self.batch_first else shape[::-1]
        return tensor.ndim == 3 and tuple(tensor.shape[:2]) == expected

    def _has_head(self, module: nn.Module, hidden: Tensor) -> bool:
        if self.head is not None:
            return True
        table = item_embedding(module, self.num_items)
        return table is not None and table.embedding_dim == hidden.shape[-1]

    def _score_hidden(self, module: nn.Module, hidden: Tensor) -> Tensor:
        table = item_embedding(module, self.num_items)
        assert table is not None  # `_has_head` has looked
        return hidden @ table.weight.T


def _until(batch: Batch, kept: Tensor) -> Batch:
    """Return the batch with padding where `kept`, bool (S,), is false.

    Rows without an event among the kept positions stay as they are: nobody reads their scores.
    """
    real = batch.mask & kept
    kept = kept | ~real.any(dim=1, keepdim=True)
    return batch._replace(
        item_ids=batch.item_ids * kept, targets=batch.targets * kept, mask=batch.mask & kept
    )


def as_builder(model: nn.Module | Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Return `build_model(num_items, seed)` for a module, or for a function that builds one.

    A function may take num_items, and seed; it is called with what it takes.
    """
    if isinstance(model, nn.Module):
        return _Copies(model)
    names = inspect.signature(model).parameters

    def build(num_items: int, seed: int, **settings: Any) -> nn.Module:
        torch.manual_seed(seed)
        given = {"num_items": num_items, "seed": seed}
        takes_all = any(p.kind is p.VAR_KEYWORD for p in names.values())
        if "num_items" not in names and not takes_all and names:
            return model(num_items, **settings)
        chosen = {k: v for k, v in given.items() if k in names or takes_all}
        return model(**chosen, **settings)

    return build


class _Copies:
    """Hands out copies of one module: same weights whatever the seed."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, num_items: int, seed: int, **settings: Any) -> nn.Module:
        return copy.deepcopy(self.module)


def _floating(value: Any):
    """Yield the floating tensors of a nested result, those called logits or scores first."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
        return
    if hasattr(value, "items"):
        pairs = sorted(value.items(), key=lambda pair: pair[0] not in ("logits", "scores"))
        value = [item for _, item in pairs]
    elif hasattr(value, "logits") and isinstance(value.logits, Tensor):
        value = [value.logits]
    if isinstance(value, tuple | list):
        for item in value:
            yield from _floating(item)
