"""Calls torch modules of other people's: finds what they take and what they return."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tasks.diagnostics.measurements.padding_swap import item_embedding
from tasks.diagnostics.subject import Batch

MASK_NAMES = ("mask", "attention_mask", "padding_mask", "src_mask")
INVERTED_MASK_NAMES = ("key_padding_mask", "src_key_padding_mask", "pad_mask")
LENGTH_NAMES = ("lengths", "length", "seq_len", "seq_lens", "item_seq_len", "seq_lengths")
TIME_NAMES = ("times", "timestamps", "time")


class AdaptError(TypeError):
    """A module's arguments or results are of no known kind; the message says what to give."""


@dataclass(frozen=True)
class Adapter:
    """How to call a module with item ids (B, S) and read scores (B, S, V) from what it returns.

    Attributes:
        num_items: Items in the catalogue; V is one more, column 0 is padding.
        batch_first: The module takes and returns (B, S, ...), not (S, B, ...).
        call: Your own call, (module, batch) -> anything that holds scores; else arguments are found
            by their names.
        head: (module, hidden (B, S, D)) -> scores, for modules that return hidden states; else the
            item embedding scores them.
    """

    num_items: int
    batch_first: bool = True
    call: Callable[[nn.Module, Batch], Any] | None = None
    head: Callable[[nn.Module, Tensor], Tensor] | None = None

    def logits(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return scores (B, S, V) after every position.

        A module with one row of scores per history is called once per position, with the history
        up to there.
        """
        scores = self._scores(module, batch)
        if scores.ndim == 3:
            return scores
        width = batch.item_ids.shape[1]
        last = [self._scores(module, batch.columns(slice(0, t + 1))) for t in range(width)]
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
        if self.call is not None:
            result = self.call(module, batch)
        else:
            result = module(*self._positional(batch), **self._named(module, batch))
        found = self._read(module, batch, result)
        if self.batch_first or found.ndim == 2:
            return found
        return found.transpose(0, 1)

    def _positional(self, batch: Batch) -> tuple[Tensor]:
        return (batch.item_ids if self.batch_first else batch.item_ids.T.contiguous(),)

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
        tensors = list(_floating(result))
        widths = (self.num_items + 1, self.num_items)
        for tensor in tensors:
            if tensor.shape[-1] in widths and tensor.ndim in (2, 3):
                return self._with_padding(tensor)
        for tensor in tensors:
            if tensor.ndim == 3 and self._fits(tensor, batch):
                return self._score_hidden(module, tensor)
        for tensor in tensors:
            if tensor.ndim in (2, 3) and tensor.shape[-1] > self.num_items + 1:
                return tensor[..., : self.num_items + 1]  # further ids, such as a mask token
        shapes = [tuple(tensor.shape) for tensor in tensors]
        raise AdaptError(
            f"{type(module).__name__} returned tensors of shapes {shapes}; expected scores "
            f"(B, S, {self.num_items + 1}) or (B, {self.num_items + 1}), or hidden states "
            "(B, S, D). Give diagnose(call=...) that returns one of them."
        )

    def _fits(self, hidden: Tensor, batch: Batch) -> bool:
        shape = tuple(batch.item_ids.shape)
        return tuple(hidden.shape[:2]) == (shape if self.batch_first else shape[::-1])

    def _score_hidden(self, module: nn.Module, hidden: Tensor) -> Tensor:
        if self.head is not None:
            return self._with_padding(self.head(module, hidden))
        table = item_embedding(module, self.num_items)
        if table is None or table.embedding_dim != hidden.shape[-1]:
            raise AdaptError(
                f"{type(module).__name__} returned hidden states {tuple(hidden.shape)} and has no "
                f"item embedding of that width to score them with. Give diagnose(head=...)."
            )
        return self._with_padding(hidden @ table.weight[: self.num_items + 1].T)

    def _with_padding(self, scores: Tensor) -> Tensor:
        if scores.shape[-1] == self.num_items + 1:
            return scores
        column = scores.new_full((*scores.shape[:-1], 1), -torch.inf)
        return torch.cat([column, scores], dim=-1)


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
