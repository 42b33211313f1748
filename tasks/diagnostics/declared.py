"""What a program says about itself: the settings its behaviour is compared with."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

LossName = Literal["cross_entropy", "sampled_softmax", "bpr", "bce", "gbce", "other"]


@dataclass(frozen=True)
class Declared:
    """Declared behaviour. A question never answers from these; it compares them with what it sees.

    Attributes:
        task: `next_item` asks for causality; `masked_item` (a bidirectional encoder) does not.
        reads_history: Scores depend on more than the last event.
        max_seq_len: Longest history a model is shown, in events.
        padding_side: Where padding stands in training batches and in histories.
        loss: Training loss; `other` is a loss of the user's own, which has no independent form.
        label_smoothing: Share of target probability spread over the catalogue, in [0, 1).
        num_negatives: Negatives per positive of a sampled loss.
        negatives: Distribution negatives are drawn from.
        popularity_exponent: Exponent of `popularity` negatives.
        collisions: What happens to a negative that is a positive.
        gbce_calibration: Calibration t of gBCE, in [0, 1].
        dropout: Dropout rate, in [0, 1).
        weight_decay: Decoupled weight decay per step and unit of learning rate.
        learning_rate: Peak learning rate.
        max_grad_norm: Global norm gradients are clipped to; 0 means no clipping.
        accumulate_steps: Batches per optimiser step.
        batch_size: Rows per batch.
        max_epochs: Epochs at most.
        split: How events are held out.
        rating_threshold: Events rated lower are dropped.
        min_user_events: Users with fewer events are dropped.
        min_item_events: Items with fewer events are dropped.
        duplicates: What is done with events equal in user, item and time.
        repeats: What is done with a user's repeated items.
        full_ranking: Metrics rank the whole catalogue.
        cutoffs: The K of reported metrics.
        stateful: State is meant to live across calls.
        tied: Input embedding and output matrix are one.
        uses_times: The model reads timestamps.
        residual: Blocks add their result to their input.
        normalized_scores: Scores are cosines over a temperature, hence bounded.
        corpus: Rows the corpus filters see.
        vocabulary: Rows that give items an id.
        gate: Input gate of xLSTM cells.
        convolution: xLSTM blocks have their causal convolution.
        norm: xLSTM blocks have their norms.
        mlstm_normalizer: The mLSTM divides by its normaliser.
        slstm_cell: Recurrence of s blocks; `lstm` and `rnn` are rungs of the strip-down ladder.
        padding_row: Row of the item embedding that stands for padding.
        first_item_row: Row of the item embedding that stands for item 1; the others follow.
        slstm_conv_gates: sLSTM gates that read the convolved input.
        unknown: Names of fields above about which the program says nothing.
    """

    task: Literal["next_item", "masked_item"] = "next_item"
    reads_history: bool = True
    max_seq_len: int = 50
    padding_side: Literal["right", "left"] = "right"
    loss: LossName = "cross_entropy"
    label_smoothing: float = 0.0
    num_negatives: int = 0
    negatives: Literal["uniform", "popularity"] = "uniform"
    popularity_exponent: float = 0.75
    collisions: Literal["allow", "exclude_target", "exclude_positives"] = "exclude_target"
    gbce_calibration: float = 0.75
    dropout: float = 0.0
    weight_decay: float = 0.0
    learning_rate: float = 1e-3
    max_grad_norm: float = 0.0
    accumulate_steps: int = 1
    batch_size: int = 64
    max_epochs: int = 1
    split: Literal["leave_one_out", "temporal"] = "leave_one_out"
    rating_threshold: float = 0.0
    min_user_events: int = 1
    min_item_events: int = 1
    duplicates: Literal["keep", "drop"] = "keep"
    repeats: Literal["keep", "drop_consecutive", "first"] = "keep"
    full_ranking: bool = True
    cutoffs: tuple[int, ...] = (1, 5, 10, 20)
    stateful: bool = False
    tied: bool = False
    uses_times: bool = False
    residual: bool = False
    normalized_scores: bool = False
    corpus: Literal["full", "train"] = "full"
    vocabulary: Literal["full", "train"] = "full"
    gate: Literal["exp", "sigmoid"] = "exp"
    convolution: bool = True
    norm: bool = True
    mlstm_normalizer: bool = True
    slstm_cell: Literal["slstm", "lstm", "rnn"] = "slstm"
    slstm_conv_gates: Literal["if", "ifzo"] = "if"
    padding_row: int = 0
    first_item_row: int = 1
    unknown: frozenset[str] = frozenset()

    def rows(self, num_items: int) -> list[int]:
        """Return the row of the item embedding for every id 0..num_items.

        >>> Declared(padding_row=3, first_item_row=0).rows(3)
        [3, 0, 1, 2]
        """
        return [self.padding_row, *range(self.first_item_row, self.first_item_row + num_items)]

    def states(self, name: str) -> bool:
        """Return whether the program says what its setting `name` is.

        Raises:
            AttributeError: There is no such setting.

        >>> Declared(unknown=frozenset({"dropout"})).states("dropout")
        False
        """
        if name not in {item.name for item in fields(self)}:
            raise AttributeError(f"{name!r} is no declared setting; see the fields of Declared.")
        return name not in self.unknown
