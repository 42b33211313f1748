"""The strip-down ladder: from the full xLSTM to a plain recurrent network, one part at a time.

A rung is a set of changed settings of ``XLSTMStack``. ``no_mlstm`` and ``no_slstm`` each take one
cell out of the full model. From ``sigmoid_gates`` on every rung keeps what the ones before it took
away, so that the rung at which a model starts to learn names the part that stood in its way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xlstm_model.pattern import block_pattern

_NO_EXPONENTIAL: dict[str, Any] = {"gate": "sigmoid"}
_NO_NORMALIZER = _NO_EXPONENTIAL | {"mlstm_normalizer": False, "slstm_cell": "lstm"}
_NO_CONVOLUTION = _NO_NORMALIZER | {"convolution": False}
_NO_RESIDUAL = _NO_CONVOLUTION | {"residual": False, "norm": False}
_BARE = _NO_RESIDUAL | {"num_heads": 1, "slstm_feed_forward": False, "slstm_fgate_bias": "zeros"}

ABLATION_RUNGS: dict[str, dict[str, Any]] = {
    "full": {},
    "no_mlstm": {},
    "no_slstm": {},
    "sigmoid_gates": _NO_EXPONENTIAL,
    "no_normalizer": _NO_NORMALIZER,
    "no_convolution": _NO_CONVOLUTION,
    "no_residual_no_norm": _NO_RESIDUAL,
    "vanilla_lstm": _BARE,
    "vanilla_rnn": _BARE | {"slstm_cell": "rnn"},
}
"""Changed settings of each rung, from the top of the ladder down; the pattern changes besides."""

RUNG_BLOCKS = {"no_mlstm": "s", "no_slstm": "m", "vanilla_lstm": "s", "vanilla_rnn": "s"}
"""Rungs whose blocks are all of one kind; the others keep the pattern."""


def ablation_settings(rung: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of one rung of the ladder.

    ``vanilla_lstm`` computes what ``torch.nn.LSTM`` with one layer per block and hidden size D
    does, and ``vanilla_rnn`` what ``torch.nn.RNN`` does.

    Args:
        rung: A key of ``ABLATION_RUNGS``.
        settings: Arguments of ``XLSTMStack`` of the full model; ``mlstm_block`` is ``published``.

    Returns:
        Arguments of ``XLSTMStack``, the number of blocks unchanged.

    Raises:
        ValueError: If there is no such rung.

    >>> ablation_settings("no_mlstm", {"embedding_dim": 8, "pattern": "mms"})
    {'embedding_dim': 8, 'pattern': 'sss', 'num_blocks': 'pattern'}
    """
    if rung not in ABLATION_RUNGS:
        raise ValueError(
            f"rung is {rung!r}; expected one of {', '.join(ABLATION_RUNGS)}. Choose one of them."
        )
    pattern = block_pattern(settings.get("pattern", "msm"), settings.get("num_blocks", "pattern"))
    if rung in RUNG_BLOCKS:
        pattern = RUNG_BLOCKS[rung] * len(pattern)
    return {
        **settings,
        **ABLATION_RUNGS[rung],
        "pattern": pattern,
        "num_blocks": "pattern",
    }
