"""Whether a module is just what its class says, so that a kernel may stand for it."""

from __future__ import annotations

from torch import nn


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a module is exactly of a class, with nothing put in place of its methods or beside.

    Hooks want to see what passes; subclasses, and functions set on the object, compute something
    else.

    >>> layer = nn.Linear(2, 2)
    >>> is_plain(layer, nn.Linear)
    True
    >>> _ = layer.register_forward_hook(print)
    >>> is_plain(layer, nn.Linear)
    False
    """
    own = module.__dict__
    return (
        type(module) is kind
        and not own["_forward_hooks"]
        and not own["_forward_pre_hooks"]
        and not own["_backward_hooks"]
        and not own["_backward_pre_hooks"]
        and "forward" not in own
        and "step" not in own
    )
