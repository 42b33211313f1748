"""Opt-in observation of a model: gates, states and activations, without touching a result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xlstm_model.blocks import MLSTMBlock, MLSTMLargeBlock, SLSTMBlock
from xlstm_model.blocks.checks import zero_padding
from xlstm_model.blocks.recurrence import MLSTMRecurrence, SLSTMRecurrence
from xlstm_model.recorder_trace import trace_mlstm, trace_slstm


@dataclass
class BlockRecord:
    """What one block did in the latest call; detached copies, padding included.

    Tensors run over (B, S, NH) in mLSTM blocks and (B, S, NH, DH) in sLSTM blocks unless said
    otherwise. Use ``mask`` to leave padding out.

    >>> record = BlockRecord("slstm", torch.zeros(1, 2, 4), mask=torch.tensor([[True, False]]))
    >>> record.preact["i"] = torch.tensor([[[1.0, 2.0], [99.0, 99.0]]])
    >>> record.preact_range()
    {'i': (1.0, 2.0)}
    """

    kind: Literal["mlstm", "slstm"]
    """Which cell the block holds."""
    input: Tensor
    """Block input (B, S, D)."""
    output: Tensor = field(default_factory=lambda: torch.empty(0))
    """Block output (B, S, D)."""
    mask: Tensor = field(default_factory=lambda: torch.empty(0))
    """Bool (B, S), True where real."""
    preact: dict[str, Tensor] = field(default_factory=dict)
    """Gate pre-activations as the cell sees them: i, f; in sLSTM blocks z, o too."""
    gates: dict[str, Tensor] = field(default_factory=dict)
    """Gate activations: ``i`` is exp(i − m) and ``f`` exp(log σ(f) + m₋ − m), what is written and
    kept on the cell's running scale, both in 0..1; sLSTM blocks add ``z`` (tanh) and ``o``
    (sigmoid)."""
    norms: dict[str, Tensor] = field(default_factory=dict)
    """Euclidean norm per head and position (B, S, NH) of the states ``c``, ``n`` and ``h`` after
    each position, and the mean of ``m``; c and n are on the scale exp(m)."""

    def preact_range(self) -> dict[str, tuple[float, float]]:
        """Smallest and largest pre-activation of each gate over the real positions."""
        real = {name: tensor[self.mask] for name, tensor in self.preact.items()}
        return {n: (t.min().item(), t.max().item()) for n, t in real.items() if t.numel()}


class Recorder:
    """Watch every xLSTM block inside a model while the ``with`` block runs.

    Results are bit for bit those without it, gradients and random numbers included, and nothing is
    left in the model afterwards; a model that is not watched pays nothing. States are computed
    again, step by step, from the recorded inputs of each cell. Only ``forward`` is watched, not
    ``step``. A later call of the model replaces the records of the one before.

    Args:
        model: Any module with xLSTM blocks inside.
        states: False leaves out gates and norms, which need the second pass over the sequence, and
            keeps inputs, outputs and, in mLSTM blocks, pre-activations.

    Raises:
        ValueError: If the model has no xLSTM block.

    >>> from xlstm_model import XLSTMStack
    >>> model = XLSTMStack(8, "ms", num_heads=2)
    >>> with Recorder(model) as recorder:
    ...     _ = model(torch.randn(1, 5, 8))
    >>> sorted(recorder.blocks), recorder.blocks["blocks.0"].norms["c"].shape
    (['blocks.0', 'blocks.1'], torch.Size([1, 5, 2]))
    """

    def __init__(self, model: nn.Module, *, states: bool = True) -> None:
        kinds = (MLSTMBlock, MLSTMLargeBlock, SLSTMBlock)
        self._watched = {n: m for n, m in model.named_modules() if isinstance(m, kinds)}
        if not self._watched:
            raise ValueError(
                f"{type(model).__name__} holds no xLSTM block to record; expected a model with an "
                "MLSTMBlock, MLSTMLargeBlock or SLSTMBlock inside."
            )
        self._states = states
        self._handles: list[Any] = []
        self.blocks: dict[str, BlockRecord] = {}
        """Latest record of each block, by its name in the model."""

    def __enter__(self) -> Recorder:
        """Start watching."""
        for name, block in self._watched.items():
            self._handles += [
                block.register_forward_pre_hook(self._before(name), with_kwargs=True),
                block.register_forward_hook(self._after(name), with_kwargs=True),
            ]
            # A hook inside an mLSTM block would keep its compiled pass from running.
            if not isinstance(block, MLSTMBlock):
                hook = block.recurrence.register_forward_hook(self._cell(name), with_kwargs=True)
                self._handles.append(hook)
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop watching; the records stay."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def summary(self) -> dict[str, float]:
        """One number per block and quantity, means over real positions, for logging.

        Returns:
            ``"<block>/gate/<i|f|z|o>"``, ``"<block>/norm/<c|n|m|h>"`` and
            ``"<block>/preact_max/<gate>"`` (largest absolute value).
        """
        numbers = {}
        for name, record in self.blocks.items():
            for label, tensors in (("gate", record.gates), ("norm", record.norms)):
                for key, tensor in tensors.items():
                    numbers[f"{name}/{label}/{key}"] = tensor[record.mask].mean().item()
            for key, bounds in record.preact_range().items():
                numbers[f"{name}/preact_max/{key}"] = max(map(abs, bounds))
        return numbers

    def _before(self, name: str) -> Any:
        def hook(block: nn.Module, args: tuple, kwargs: dict) -> None:
            x, mask = (args[0] if args else kwargs["x"]).detach(), kwargs.get("mask")
            real = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
            self.blocks[name] = BlockRecord(
                kind="slstm" if isinstance(block, SLSTMBlock) else "mlstm",
                input=x.clone(),
                mask=real if mask is None else mask.clone(),
            )

        return hook

    def _after(self, name: str) -> Any:
        @torch.no_grad()
        def hook(block: nn.Module, args: tuple, kwargs: dict, output: tuple) -> None:
            record = self.blocks[name]
            record.output = output[0].detach().clone()
            if isinstance(block, MLSTMBlock):
                mask, state = kwargs.get("mask"), kwargs.get("state")
                inputs, *_ = block.cell_inputs(zero_padding(record.input, mask), mask, state)
                cell = {"state": None if state is None else state.cell}
                self._cell(name)(block.recurrence, inputs, cell, ())

        return hook

    def _cell(self, name: str) -> Any:
        @torch.no_grad()
        def hook(
            cell: MLSTMRecurrence | SLSTMRecurrence, args: tuple, kwargs: dict, output: tuple
        ) -> None:
            record = self.blocks[name]
            is_slstm = isinstance(cell, SLSTMRecurrence)
            if not is_slstm:
                igate, fgate = (t.detach().transpose(1, 2).clone() for t in args[3:5])
                igate = F.logsigmoid(igate) if cell.gate == "sigmoid" else igate
                record.preact = {"i": igate, "f": fgate}
            if self._states:
                trace = trace_slstm if is_slstm else trace_mlstm
                trace(cell, args, record, kwargs.get("state"))

        return hook
