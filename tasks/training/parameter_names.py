"""Which part of a recommender a parameter belongs to, by its name."""

from __future__ import annotations

import re


def parameter_group(name: str) -> str:
    """The part of a recommender a parameter belongs to.

    >>> [parameter_group(n) for n in ("item_embedding.weight", "sequence_model.blocks.2.up.bias")]
    ['embedding', 'block_2']
    >>> parameter_group("sequence_model.layers.0.weight_ih_l0"), parameter_group("output_weight")
    ('block_0', 'head')
    """
    if (block := re.search(r"\b(?:blocks|layers)\.(\d+)\.", name)) is not None:
        return f"block_{block[1]}"
    is_embedding = "embedding" in name or "positions" in name or "time_gaps" in name
    return "embedding" if is_embedding else "head"
