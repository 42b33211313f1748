"""Load weights trained with the authors' ``xlstm`` package into our blocks and stacks.

Their names and layouts are those of version 2.0.6. Three are traps: the sLSTM's module called
``fgate`` feeds the input gate and ``igate`` the forget gate, kept there for old checkpoints; norms
store their scale minus 1, as ours do; but the norms of the 7B-style block store the scale itself.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from xlstm_model.blocks import MLSTMBlock, MLSTMLargeBlock, SLSTMBlock
from xlstm_model.stack import XLSTMStack

MLSTM_NAMES = {
    "xlstm_norm.weight": "norm.weight",
    "xlstm.proj_up.weight": "proj_up.weight",
    "xlstm.proj_up.bias": "proj_up.bias",
    "xlstm.q_proj.weight": "q_proj.weight",
    "xlstm.k_proj.weight": "k_proj.weight",
    "xlstm.v_proj.weight": "v_proj.weight",
    "xlstm.conv1d.conv.weight": "conv.weight",
    "xlstm.conv1d.conv.bias": "conv.bias",
    "xlstm.mlstm_cell.igate.weight": "igate.weight",
    "xlstm.mlstm_cell.igate.bias": "igate.bias",
    "xlstm.mlstm_cell.fgate.weight": "fgate.weight",
    "xlstm.mlstm_cell.fgate.bias": "fgate.bias",
    "xlstm.mlstm_cell.outnorm.weight": "head_merge.norm.weight",
    "xlstm.learnable_skip": "skip",
    "xlstm.proj_down.weight": "proj_down.weight",
}
"""Names of an mLSTM block: theirs to ours; every layout is the same."""

SLSTM_NAMES = {
    "xlstm_norm.weight": "norm.weight",
    "xlstm.conv1d.conv.weight": "conv.weight",
    "xlstm.conv1d.conv.bias": "conv.bias",
    "xlstm.group_norm.weight": "head_merge.norm.weight",
    "ffn_norm.weight": "feed_forward_norm.weight",
    "ffn.proj_up.weight": "feed_forward.proj_up.weight",
    "ffn.proj_down.weight": "feed_forward.proj_down.weight",
}
"""Names of an sLSTM block whose layout is the same: theirs to ours."""

LARGE_NAMES = {
    "norm_mlstm.weight": "norm.weight",
    "mlstm_layer.q.weight": "q_proj.weight",
    "mlstm_layer.k.weight": "k_proj.weight",
    "mlstm_layer.v.weight": "v_proj.weight",
    "mlstm_layer.ogate_preact.weight": "ogate.weight",
    "mlstm_layer.igate_preact.weight": "igate.weight",
    "mlstm_layer.igate_preact.bias": "igate.bias",
    "mlstm_layer.fgate_preact.weight": "fgate.weight",
    "mlstm_layer.fgate_preact.bias": "fgate.bias",
    "mlstm_layer.multihead_norm.weight": "head_merge.norm.weight",
    "mlstm_layer.out_proj.weight": "proj_down.weight",
    "norm_ffn.weight": "feed_forward_norm.weight",
    "ffn.proj_down.weight": "feed_forward.proj_down.weight",
}
"""Names of a 7B-style block: theirs to ours; norm weights are theirs minus 1."""

SLSTM_GATE_MODULES = {"i": "fgate", "f": "igate", "z": "zgate", "o": "ogate"}
"""Their module that feeds each of our gates."""


def convert_authors_state_dict(
    module: MLSTMBlock | MLSTMLargeBlock | SLSTMBlock | XLSTMStack,
    state_dict: Mapping[str, Tensor],
    *,
    prefix: str = "",
) -> dict[str, Tensor]:
    """Rename and rearrange an authors' state dict to the names and layouts of one of our modules.

    Args:
        module: The block or stack the result is for; only its structure is read.
        state_dict: Theirs, of a block stack (``blocks.0.…``, ``post_blocks_norm.weight`` or, 7B
            style, ``out_norm.weight``) or, for a block, of one block.
        prefix: What precedes these names, for example ``"xlstm_block_stack."`` for a stack inside
            a language model or ``"blocks.0."`` for one block of a stack. Other entries are ignored.

    Returns:
        A state dict for ``module.load_state_dict``.

    Raises:
        ValueError: If an entry is missing, or one under the prefix has no place in the module.
        TypeError: If the module is no block and no stack.

    >>> convert_authors_state_dict(SLSTMBlock(4, num_heads=1), {"stack.a": torch.zeros(1)})
    Traceback (most recent call last):
    ...
    ValueError: the state dict lacks xlstm_norm.weight, which SLSTMBlock needs. Check the prefix...
    """
    theirs = {k.removeprefix(prefix): v for k, v in state_dict.items() if k.startswith(prefix)}
    remaining = dict(theirs)
    ours = _take(module, remaining, "")
    if remaining:
        raise ValueError(
            f"the state dict holds {', '.join(sorted(remaining)[:5])}, for which "
            f"{type(module).__name__} has no place. Give it the blocks the weights were made for, "
            "or a prefix that selects the right ones."
        )
    return ours


def load_authors_state_dict(
    module: MLSTMBlock | MLSTMLargeBlock | SLSTMBlock | XLSTMStack,
    state_dict: Mapping[str, Tensor],
    *,
    prefix: str = "",
) -> None:
    """Fill one of our modules with the authors' weights; arguments as for the conversion.

    With ``eps=1e-6`` (theirs) the outputs are those of the authors' package; with our default of
    no eps they differ by less than 1e-5.

    Raises:
        ValueError: If names do not match, or a shape does not fit.
        TypeError: If the module is no block and no stack.

    >>> source = {f"xlstm.{g}gate.weight": torch.zeros(1, 4, 4) for g in "ifzo"}
    >>> load_authors_state_dict(SLSTMBlock(4, num_heads=1), source)
    Traceback (most recent call last):
    ...
    ValueError: the state dict lacks xlstm_norm.weight, which SLSTMBlock needs. Check the prefix...
    """
    converted = convert_authors_state_dict(module, state_dict, prefix=prefix)
    own = module.state_dict()
    for name, tensor in converted.items():
        if own[name].shape != tensor.shape:
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)} in the state dict; expected "
                f"{tuple(own[name].shape)}. Build the module with the sizes of the weights."
            )
    module.load_state_dict(converted)


def _take(module: nn.Module, theirs: dict[str, Tensor], scope: str) -> dict[str, Tensor]:
    """Remove what belongs to a module from their entries and return it under our names."""
    if isinstance(module, XLSTMStack):
        ours = _take_final_norm(module, theirs)
        for index, block in enumerate(module.blocks):
            part = _take(block, theirs, f"blocks.{index}.")
            ours |= {f"blocks.{index}.{name}": tensor for name, tensor in part.items()}
        return ours
    names = {MLSTMBlock: MLSTM_NAMES, SLSTMBlock: SLSTM_NAMES, MLSTMLargeBlock: LARGE_NAMES}
    if type(module) not in names:
        raise TypeError(
            f"module is {type(module).__name__}; expected a block or XLSTMStack. Load the stack "
            "inside a model, for example model.sequence_model."
        )
    own = module.state_dict()
    ours = {
        our: _pop(module, theirs, scope + name)
        for name, our in names[type(module)].items()
        if our in own
    }
    if isinstance(module, SLSTMBlock):
        ours |= _take_slstm_cell(module, theirs, scope)
    if isinstance(module, MLSTMLargeBlock):
        ours |= {name: tensor - 1 for name, tensor in ours.items() if "norm" in name}
        halves = [
            _pop(module, theirs, f"{scope}ffn.{n}.weight") for n in ("proj_up_gate", "proj_up")
        ]
        ours["feed_forward.proj_up.weight"] = torch.cat(halves)
    return ours


def _take_final_norm(stack: XLSTMStack, theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    if isinstance(stack.norm, nn.Identity):
        return {}
    if any(isinstance(block, MLSTMLargeBlock) for block in stack.blocks):
        return {"norm.weight": _pop(stack, theirs, "out_norm.weight") - 1}
    return {"norm.weight": _pop(stack, theirs, "post_blocks_norm.weight")}


def _take_slstm_cell(block: SLSTMBlock, theirs: dict[str, Tensor], scope: str) -> dict[str, Tensor]:
    heads, size = block.num_heads, block.head_dim
    gates = {
        gate: _pop(block, theirs, f"{scope}xlstm.{name}.weight")
        for gate, name in SLSTM_GATE_MODULES.items()
    }
    ours = {}
    for name, letters in (("convolved_gates", block.convolved), ("raw_gates", block.raw)):
        if letters:
            ours[f"{name}.weight"] = torch.cat([gates[letter] for letter in letters], dim=1)
    kernel = _pop(block, theirs, f"{scope}xlstm.slstm_cell._recurrent_kernel_")
    kernel = kernel.reshape(heads, 4, size, size)  # (NH, gate, DH out, DH in)
    ours["recurrence.recurrent_weight"] = kernel.permute(0, 3, 1, 2).contiguous()
    bias = _pop(block, theirs, f"{scope}xlstm.slstm_cell._bias_").reshape(4, heads, size)
    ours["recurrence.bias"] = bias.transpose(0, 1).contiguous()
    return ours


def _pop(module: nn.Module, theirs: dict[str, Tensor], name: str) -> Tensor:
    if name not in theirs:
        raise ValueError(
            f"the state dict lacks {name}, which {type(module).__name__} needs. Check the prefix "
            "and that the blocks are those the weights were made for."
        )
    return theirs.pop(name)
