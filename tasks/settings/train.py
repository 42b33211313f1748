"""Settings of the stage ``train``: what all models share, and one section per model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.settings.base import Section


class SharedTraining(Section):
    """Loop, loss and budget, the same for every neural model."""

    max_seq_len: int = Field(100, ge=2, le=100_000)
    """Most recent events a model sees, in events (inputs of a training window)."""
    batch_size: int = Field(64, ge=1, le=1_000_000)
    """Windows per optimiser step."""
    max_epochs: int = Field(40, ge=1, le=1_000_000)
    """Passes over the training events at most."""
    patience: int = Field(6, ge=1, le=1_000_000)
    """Epochs without a better validation NDCG@10 before training stops."""
    loss: Literal["cross_entropy", "sampled_softmax", "bpr", "bce", "gbce"] = "cross_entropy"
    """Training loss; cross-entropy runs over the full catalogue."""
    num_negatives: int = Field(128, ge=1, le=1_000_000)
    """Negatives per positive, for the sampled losses."""
    negatives: Literal["uniform", "popularity"] = "uniform"
    """Distribution negatives are drawn from."""
    negatives_per: Literal["user", "global"] = "global"
    """Draw negatives for every position of a user, or one set for the batch."""
    popularity_exponent: float = Field(0.75, ge=0.0, le=2.0)
    """Exponent of the `popularity` distribution."""
    collisions: Literal["allow", "exclude_target", "exclude_positives"] = "exclude_target"
    """What happens to a drawn negative that is the target, or one of the user's items."""
    gbce_calibration: float = Field(0.75, ge=0.0, le=1.0)
    """Calibration t of gBCE (1 fully corrects for negative sampling)."""
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0)
    """Share of the target probability spread over the catalogue."""
    warmup_steps: int = Field(50, ge=0, le=1_000_000_000)
    """Steps of linear warm-up."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate after warm-up."""
    final_learning_rate: float = Field(0.1, ge=0.0, le=1.0)
    """Learning rate at the end of the cosine, as a share of the peak."""
    max_grad_norm: float = Field(1.0, gt=0.0)
    """Gradients are scaled down to this global norm."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """`auto` is bf16 on a GPU and float32 on a CPU."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train and to rank; `auto` takes a GPU when there is one."""
    num_threads: int = Field(1, ge=1, le=1024)
    """CPU threads of one training."""
    warm_start: bool = False
    """Begin where the last training of the same model in this folder ended, items matched by their
    raw ids, instead of from scratch; for logs that grow."""
    record_every_steps: int = Field(20, ge=1, le=1_000_000_000)
    """Steps between two records of gradient statistics; on a GPU at least, where records are as
    rare as keeps them below 4 % of the time."""
    checkpoint_every_steps: int = Field(200, ge=1, le=1_000_000_000)
    """Steps between two checkpoints (one is also written after every epoch)."""


class PopularitySettings(Section):
    """The popularity model has nothing to set."""


class TransitionsSettings(Section):
    """First-order transitions with back-off to popularity."""

    smoothing: float = Field(1.0, gt=0.0)
    """Weight of the popularity back-off, in pseudo-counts per item."""


class LogisticRegressionSettings(Section):
    """Logistic regression on sparse history features."""

    inverse_regularization: float = Field(1.0, gt=0.0)
    """scikit-learn's C."""


class NeuralSettings(Section):
    """What every neural model has."""

    embedding_dim: int = Field(64, ge=1, le=65_536)
    """Width D of item embeddings and hidden states."""
    num_layers: int = Field(1, ge=1, le=1_000)
    """Layers of the sequence model."""
    dropout: float = Field(0.2, ge=0.0, lt=1.0)
    """Dropout on embeddings and between layers."""
    tied: bool = True
    """Score items with the input embedding (tied) or with a matrix of its own."""
    repeat_bias: bool = True
    """Learn how much more or less likely an item is once it is in the history."""
    time_gaps: bool = False
    """Add an embedding of the time since the previous event."""
    learning_rate: float = Field(3e-3, gt=0.0)
    """Peak learning rate."""
    weight_decay: float = Field(0.01, ge=0.0)
    """AdamW's decoupled decay, on matrices only."""


class GRUSettings(NeuralSettings):
    """GRU over item embeddings."""

    dropout: float = Field(0.3, ge=0.0, lt=1.0)
    """Dropout on embeddings and between layers."""
    learning_rate: float = Field(6.5e-3, gt=0.0)
    """Peak learning rate."""
    weight_decay: float = Field(0.1, ge=0.0)
    """AdamW's decoupled decay, on matrices only."""


class LSTMSettings(NeuralSettings):
    """LSTM over item embeddings, without xLSTM's extensions."""

    dropout: float = Field(0.2, ge=0.0, lt=1.0)
    """Dropout on embeddings and between layers."""
    learning_rate: float = Field(5.5e-3, gt=0.0)
    """Peak learning rate."""
    weight_decay: float = Field(0.01, ge=0.0)
    """AdamW's decoupled decay, on matrices only."""


class SASRecSettings(NeuralSettings):
    """Causal self-attention (SASRec)."""

    dropout: float = Field(0.2, ge=0.0, lt=1.0)
    """Dropout on embeddings and between layers."""
    learning_rate: float = Field(5.4e-3, gt=0.0)
    """Peak learning rate."""
    weight_decay: float = Field(0.1, ge=0.0)
    """AdamW's decoupled decay, on matrices only."""

    num_layers: int = Field(2, ge=1, le=1_000)
    """Transformer blocks."""
    num_heads: int = Field(4, ge=1, le=1_024)
    """Attention heads; divides `embedding_dim`."""


class XLSTMSettings(NeuralSettings):
    """xLSTM stack of mLSTM and sLSTM blocks."""

    dropout: float = Field(0.4, ge=0.0, lt=1.0)
    """Dropout on embeddings and between layers."""
    learning_rate: float = Field(6e-3, gt=0.0)
    """Peak learning rate."""
    weight_decay: float = Field(0.3, ge=0.0)
    """AdamW's decoupled decay, on matrices only."""

    num_layers: int = Field(1, ge=1, le=1_000)
    """Repetitions of `pattern`."""
    pattern: str = Field("sm", pattern="^[ms]+$")
    """Blocks in order: m (mLSTM) and s (sLSTM)."""
    num_heads: int = Field(4, ge=1, le=1_024)
    """Heads of every block; divides `embedding_dim`."""
    conv_kernel: int = Field(4, ge=1, le=10_000)
    """Width of the causal convolution, in events."""
    slstm_conv_gates: Literal["if", "ifzo"] = "if"
    """Which sLSTM gates read the convolved input: the published i and f, or all four."""
    chunk_size: int = Field(64, ge=1, le=100_000)
    """Chunk of the chunkwise mLSTM, in events."""


class TrainSettings(Section):
    """Training of every model."""

    shared: SharedTraining = SharedTraining()
    """What all models share."""
    popularity: PopularitySettings = PopularitySettings()
    transitions: TransitionsSettings = TransitionsSettings()
    logistic_regression: LogisticRegressionSettings = LogisticRegressionSettings()
    gru: GRUSettings = GRUSettings()
    lstm: LSTMSettings = LSTMSettings()
    sasrec: SASRecSettings = SASRecSettings()
    xlstm: XLSTMSettings = XLSTMSettings()
