"""Models of other packages, and what a search draws for each.

The space is this project's own (`tasks.tuning.space`) wherever a package has the setting: learning
rate, dropout, layers, heads, decoupled weight decay, tied or not. RecTools' optimiser has no weight
decay and its models are always tied; RecBole's are always tied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.tuning.space import COMMON, LEARNING_RATES, OWN

HEADS = OWN["sasrec"]["num_heads"]
TEMPERATURES = (0.05, 0.1)
"""Of HSTU's cosines: at RecTools' default of 1 a softmax over a catalogue can't become sharp."""


@dataclass(frozen=True)
class Peer:
    """A model of another package.

    Attributes:
        family: Package, which is also the environment it needs and the module here that trains it.
        choices: Values drawn for each setting besides the learning rate.
    """

    family: str
    choices: Mapping[str, tuple]


def _common(*names: str, **more: tuple) -> dict[str, tuple]:
    return {**{name: COMMON[name] for name in names}, **more}


PEERS: Mapping[str, Peer] = {
    "rectools-sasrec": Peer("rectools", _common("dropout", "num_layers", num_heads=HEADS)),
    "rectools-hstu": Peer(
        "rectools", _common("dropout", "num_layers", num_heads=HEADS, temperature=TEMPERATURES)
    ),
    "recbole-gru4rec": Peer("recbole", _common("dropout", "num_layers", "weight_decay")),
    "recbole-sasrec": Peer(
        "recbole", _common("dropout", "num_layers", "weight_decay", num_heads=HEADS)
    ),
    "xlstm-package": Peer("xlstm", {**COMMON, **OWN["xlstm"]}),
}


def peers_of(family: str) -> list[str]:
    """Names of a package's models.

    >>> peers_of("recbole")
    ['recbole-gru4rec', 'recbole-sasrec']
    """
    return [name for name, peer in PEERS.items() if peer.family == family]


def draw(trial: Any, name: str) -> dict[str, Any]:
    """Draw a peer's settings.

    Args:
        trial: An Optuna trial.
        name: One of `PEERS`.

    Raises:
        ValueError: There is no such peer.
    """
    if name not in PEERS:
        raise ValueError(f"peer is {name!r}; expected one of {', '.join(PEERS)}.")
    low, high = LEARNING_RATES
    rate = trial.suggest_float("learning_rate", low, high, log=True)
    drawn = {"learning_rate": float(f"{rate:.2g}")}
    for setting, choices in PEERS[name].choices.items():
        drawn[setting] = trial.suggest_categorical(setting, choices)
    return drawn
