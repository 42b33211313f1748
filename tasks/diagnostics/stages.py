"""Where a fault can sit: the stages of an experiment, in the order data flows through them.

The order decides who is blamed when several stages look broken: what enters earlier spoils what
comes later, never the other way round.
"""

from __future__ import annotations

from typing import Literal, get_args

Stage = Literal[
    "order",  # events of a user sorted by time
    "time",  # timestamps valid and on their own event
    "encode",  # raw id <-> encoded id
    "format",  # dtypes, shapes and ids of what is handed on
    "split",  # held-out events apart from training events
    "align",  # target = next item of the same user
    "pad",  # padding, masks, lengths, truncation
    "distribution",  # what is in the log at all
    "dims",  # widths of layers; legal sizes run
    "stochastic",  # randomness where none belongs
    "state",  # state starts clean and stays within a call
    "batch",  # one user's result independent of the others
    "causal",  # no position sees its future
    "residual",  # skip connections
    "cell",  # recurrences follow their equations
    "numeric",  # finite under large values
    "output",  # logits: width, range, padding column
    "loss",  # the loss is the declared one
    "negatives",  # sampled as declared
    "embedding",  # rows distinct, trained, padding row apart
    "core",  # the sequence model's result is used and depends on its input
    "activation",  # saturated or dead units, stuck gates
    "gradient_flow",  # gradients reach every parameter and every lag
    "optimiser",  # parameters registered, zeroed, stepped
    "clipping",  # gradient clipping does what is declared
    "regularisation",  # dropout, weight decay, train/eval mode
    "batching",  # batch size, steps, sequence length
    "inference",  # histories and positions scored at evaluation
    "metric",  # ranks and metrics
    "learning_rate",  # size of the steps
    "monitoring",  # what is shown belongs to the run
    "symptom",  # the model does not learn: never a cause by itself
]

STAGES: tuple[Stage, ...] = get_args(Stage)


def position(stage: Stage) -> int:
    """Return the place of a stage in the flow, 0 first.

    >>> position("order") < position("loss") < position("symptom")
    True
    """
    return STAGES.index(stage)
