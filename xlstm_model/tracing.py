"""Who is watching the operations: compilers, exporters, function transforms, second derivatives."""

from __future__ import annotations

import torch


def must_be_visible() -> bool:
    """Whether an exporter or a function transform (``torch.func``) is watching the operations.

    An exported program must run without this library, and a transform must see what it transforms,
    so everything then runs in plain differentiable operations. A compiler keeps the operators of
    this library as they are.

    >>> must_be_visible()
    False
    """
    return torch.compiler.is_exporting() or torch._C._are_functorch_transforms_active()


def refuse_double_backward(alternative: str) -> None:
    """Refuse to record a hand-written backward, whose result would count as a constant.

    Args:
        alternative: What autograd can differentiate twice, for the message.

    Raises:
        RuntimeError: If the backward runs with ``create_graph=True``.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            "backward was called with create_graph=True; expected False, since this backward "
            f"cannot be differentiated again. Use {alternative} for that."
        )
