"""What questions look through: shared measurements made once, on models of the probe's own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cached_property
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from tasks.data.prepared import PreparedData
from tasks.diagnostics.precision import narrows
from tasks.diagnostics.problems import (
    NotApplicableError,
    NotMeasuredError,
    NotOfferedError,
    SubjectError,
)
from tasks.diagnostics.question import COMMANDS, MODES, Mode
from tasks.diagnostics.subject import Batch, PreparedLog, Subject
from tasks.diagnostics.untouched import untouched

E = TypeVar("E")

MAX_BATCHES = 200
"""Batches of an epoch that data checks read: at batch size 64 every window of 12,800 users."""

RUN_THE_MODEL = frozenset({"loss", "train_step", "score", "evaluate", "train"})
"""Parts that fail whenever the model does."""

_EXPECTED = (SubjectError, NotOfferedError, NotApplicableError, NotMeasuredError)


class Probe:
    """A subject, a budget, and everything measured so far.

    A measurement is a function `measure(probe) -> evidence`; `evidence(measure)` runs it at most
    once, whatever number of questions asks, and undoes its side effects. Models handed out are
    new ones built for the caller, so they may be trained, patched or broken freely.

    Args:
        subject: The program under diagnosis; never changed.
        mode: What may be spent.
        seed: Seed of models, batches and perturbations.
    """

    def __init__(self, subject: Subject, mode: Mode = "exact", *, seed: int = 0) -> None:
        if mode not in MODES:
            raise ValueError(f"mode is {mode!r}; expected one of {', '.join(MODES)}.")
        self.subject = subject
        self.mode: Mode = mode
        self.seed = seed
        self._results: dict[Callable, Any] = {}

    def allows(self, mode: Mode) -> bool:
        """Return whether the budget covers what `mode` costs."""
        return MODES.index(mode) <= MODES.index(self.mode)

    def require(self, mode: Mode) -> None:
        """End a measurement that costs more than allowed.

        Raises:
            NotMeasuredError: The budget is smaller; the message is the command that raises it.
        """
        if not self.allows(mode):
            raise NotMeasuredError(COMMANDS[mode])

    def evidence(self, measure: Callable[[Probe], E]) -> E:
        """Return what `measure` finds, from memory where it was asked for before.

        Whatever kept it from a result (a part that crashes or is not offered) is remembered and
        raised again. Bugs are not remembered.
        """
        if measure not in self._results:
            trained = self.subject.trained
            with untouched(*([] if trained is None else [trained.model])):
                try:
                    self._results[measure] = measure(self)
                except _EXPECTED as problem:
                    self._results[measure] = problem
        result = self._results[measure]
        if isinstance(result, _EXPECTED):
            raise result
        return result

    def ask(self, part: str, *arguments: Any, **options: Any) -> Any:
        """Call a part of the subject.

        A part that runs the model is not to blame for a model that does not run at all.

        Raises:
            NotOfferedError: The subject has no such part.
            SubjectError: The part raised.
        """
        function = getattr(self.subject, part)
        if function is None:
            raise NotOfferedError(part)
        try:
            return function(*arguments, **options)
        except Exception as error:
            culprit = "logits" if part in RUN_THE_MODEL and self._model_fails else part
            raise SubjectError.of(culprit, error) from error

    @cached_property
    def _model_fails(self) -> bool:
        """The model does not even score an ordinary batch."""
        with untouched(), torch.no_grad():
            try:
                self.logits(self.model(), self.batch(rows=2, positions=4))
            except SubjectError as error:
                return error.part == "logits"
        return False

    @cached_property
    def prepared(self) -> PreparedLog:
        """What preparation made of the log; prepared once."""
        if self.subject.ready is not None:
            return self.subject.ready
        if self.subject.prepare is None:
            raise NotOfferedError("prepare")
        if self.subject.log is None:
            raise NotOfferedError("log")
        return self.ask("prepare", self.subject.log)

    @property
    def data(self) -> PreparedData:
        """Packed sequences and evaluation examples."""
        return self.prepared.data

    @cached_property
    def all_batches(self) -> tuple[Batch, ...]:
        """The batches of one epoch, `MAX_BATCHES` of them at most."""
        batches = self.ask("make_batches", self.prepared, self.seed, 0)
        try:
            found = tuple(islice(batches, MAX_BATCHES))
        except Exception as error:
            raise SubjectError.of("make_batches", error) from error
        if not found:
            raise SubjectError("make_batches", "an epoch holds no batch")
        return found

    def batch(self, rows: int = 8, positions: int = 16) -> Batch:
        """Return a small batch of real rows, the fullest first, cut to its first positions."""
        first = self.all_batches[0]
        order = first.mask.sum(dim=1).argsort(descending=True, stable=True)
        small = first.rows(order[:rows])
        return small.columns(slice(0, min(positions, small.item_ids.shape[1])))

    def model(
        self, *, trained: bool = False, seed: int | None = None, **settings: Any
    ) -> nn.Module:
        """Return a module of the caller's own, in eval mode.

        Args:
            trained: With the weights of the finished training instead of new ones.
            seed: Seed of new weights; the probe's where not given.
            settings: Overrides for `build_model`, as in `subject.variants`.

        Raises:
            NotMeasuredError: Trained weights are asked for before there are any.
        """
        if trained:
            return self._trained_model()
        with untouched():
            model = self.ask(
                "build_model",
                self.data.num_items,
                self.seed if seed is None else seed,
                **settings,
            )
        return model.eval()

    def _trained_model(self) -> nn.Module:
        if self.subject.trained is None:
            raise NotMeasuredError("a finished training; " + COMMANDS["after_training"])
        original = self.subject.trained.model
        if self.subject.build_model is None:
            return copy.deepcopy(original).eval()
        model = self.model()
        try:
            model.load_state_dict(original.state_dict())
        except RuntimeError:
            # Modules whose names differ from the builder's (wrapped, compiled, merged).
            return copy.deepcopy(original).eval()
        return model

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the subject's logits (B, S, V), after checking that they are that.

        Raises:
            SubjectError: It crashed, or returned something else.
        """
        logits = self.ask("logits", model, batch)
        expected = (*batch.item_ids.shape, self.data.num_items + 1)
        if not isinstance(logits, Tensor) or tuple(logits.shape) != expected:
            found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise SubjectError("logits", f"returned {found}; expected a tensor {expected}")
        return logits

    @cached_property
    def precision(self) -> torch.dtype:
        """float64 where the program runs in it from end to end, else float32.

        Identities are tried in float64, so that a model that magnifies rounding errors is not
        taken for one that breaks them.
        """
        model, batch = self.model().double(), self.batch(rows=2, positions=4)

        def run() -> None:
            self.logits(model, batch)
            if self.subject.loss is not None:
                self.ask("loss", model, batch)

        with untouched(), torch.no_grad():
            try:
                return torch.float32 if narrows(run) else torch.float64
            except SubjectError:
                return torch.float32

    def replay(self, batch: Batch, *, trained: bool = False, shake: bool = True) -> Tensor:
        """Return logits of real items, without a graph, from a model nothing has happened to.

        Two replays differ only by their batches: every call takes a new model with the same
        weights and the same random state, so neither noise nor state left by an earlier call can
        be mistaken for an influence of the input.

        Args:
            batch: Inputs.
            trained: With trained weights; else new ones.
            shake: Add noise to the weights, so that no path is closed by an initial value.

        Returns:
            float64 (B, S, num_items).

        Raises:
            NotMeasuredError: Logits of real positions are not finite.
        """
        with untouched(), torch.no_grad():
            model = self.model(trained=trained)
            if shake:
                shake_weights(model, self.seed)
            model.to(self.precision)
            torch.manual_seed(self.seed)
            logits = self.logits(model, batch)[..., 1:].double()
        if not bool(torch.isfinite(logits[batch.mask]).all()):
            raise NotMeasuredError("finite logits; see question weights_move_and_stay_finite")
        return logits


def shake_weights(model: nn.Module, seed: int) -> None:
    """Add seeded noise to every trainable parameter, in place.

    An identity holds for all weights, but initial ones may hide that it does not: recurrent
    matrices start at zero, gates wide open. The noise has half the parameter's own standard
    deviation and at least 0.05. Padding rows of embeddings stay as they are.
    """
    generator = torch.Generator().manual_seed(seed)
    padding = {
        id(module.weight): module.padding_idx
        for module in model.modules()
        if isinstance(module, nn.Embedding) and module.padding_idx is not None
    }
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.requires_grad or not parameter.is_floating_point():
                continue
            finite = parameter[torch.isfinite(parameter)]
            spread = float(finite.std(correction=0)) if finite.numel() else 0.0
            noise = torch.randn(parameter.shape, generator=generator) * max(0.5 * spread, 0.05)
            if id(parameter) in padding:
                noise[padding[id(parameter)]] = 0.0
            parameter.add_(noise.to(parameter))
