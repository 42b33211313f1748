"""Which block stands where: patterns such as ``msm`` and ratios such as ``7:1``."""

from __future__ import annotations

import re
from typing import Literal

BLOCK_LETTERS = "ms"
"""Letters of a pattern: m is an mLSTM block, s an sLSTM block."""


def block_pattern(pattern: str, num_blocks: int | Literal["pattern"] = "pattern") -> str:
    """Spell out a pattern, one letter per block.

    Args:
        pattern: Letters in order (``"msm"``), or a ratio ``"M:S"`` of mLSTM to sLSTM blocks as in
            the paper's xLSTM[7:1], meaning M letters m followed by S letters s.
        num_blocks: How many blocks in all, a multiple of what the pattern spells, which then
            repeats; ``"pattern"`` takes the pattern once.

    Raises:
        ValueError: If the pattern is empty or has other letters, or ``num_blocks`` does not fit.
        TypeError: If ``num_blocks`` is neither a whole number nor ``"pattern"``.

    >>> block_pattern("msm")
    'msm'
    >>> block_pattern("7:1", 16)
    'mmmmmmmsmmmmmmms'
    >>> block_pattern("ms", 4)
    'msms'
    """
    ratio = re.fullmatch(r"(\d+):(\d+)", pattern)
    period = "m" * int(ratio[1]) + "s" * int(ratio[2]) if ratio else pattern
    if not period or set(period) - set(BLOCK_LETTERS):
        raise ValueError(
            f"pattern is {pattern!r}; expected letters m and s in block order, such as 'msm', or a "
            "ratio such as '7:1' with at least one block. Give the stack at least one block."
        )
    if num_blocks == "pattern":
        return period
    if isinstance(num_blocks, bool) or not isinstance(num_blocks, int):
        raise TypeError(
            f"num_blocks is {num_blocks!r}; expected a whole number or 'pattern'. Leave it out to "
            "take the pattern once."
        )
    if num_blocks < 1 or num_blocks % len(period):
        raise ValueError(
            f"num_blocks is {num_blocks}; expected a positive multiple of {len(period)}, the "
            f"blocks that pattern {pattern!r} spells. Spell every block out for another number."
        )
    return period * (num_blocks // len(period))
