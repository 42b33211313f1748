"""xLSTM packages: item ids (B, S) -> scores (B, S, V), by each one's documentation."""

from __future__ import annotations

from torch import Tensor, nn

WIDTH = 32


def pyxlstm_slstm(num_items: int) -> nn.Module:
    """PyxLSTM's language model with sLSTM blocks of one layer."""
    from xLSTM.model import xLSTM

    return xLSTM(num_items + 1, WIDTH, WIDTH, 1, 2, 0.0, False, "slstm")


def pyxlstm_two_layers(num_items: int) -> nn.Module:
    """PyxLSTM's language model with sLSTM blocks of two layers."""
    from xLSTM.model import xLSTM

    return xLSTM(num_items + 1, WIDTH, WIDTH, 2, 2, 0.0, False, "slstm")


def pyxlstm_mlstm(num_items: int) -> nn.Module:
    """PyxLSTM's language model with mLSTM blocks of one layer."""
    from xLSTM.model import xLSTM

    return xLSTM(num_items + 1, WIDTH, WIDTH, 1, 2, 0.0, False, "mlstm")


class Between(nn.Module):
    """Embedding, a sequence model of (B, S, D), and a linear head."""

    def __init__(self, num_items: int, width: int, core: nn.Module) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_items + 1, width, padding_idx=0)
        self.core = core
        self.head = nn.Linear(width, num_items + 1)

    def forward(self, item_ids: Tensor) -> Tensor:
        """Return scores (B, S, V)."""
        result = self.core(self.embedding(item_ids))
        hidden = result[0] if isinstance(result, tuple) else result
        return self.head(hidden)


def torchxlstm_slstm(num_items: int) -> nn.Module:
    """torchxlstm's sLSTM in place of an nn.LSTM."""
    from torchxlstm.xlstm import sLSTM

    return Between(num_items, WIDTH, sLSTM(WIDTH, WIDTH // 2, 2, 2, batch_first=True))


def torchxlstm_mlstm(num_items: int) -> nn.Module:
    """torchxlstm's mLSTM in place of an nn.LSTM."""
    from torchxlstm.xlstm import mLSTM

    return Between(num_items, WIDTH, mLSTM(WIDTH, WIDTH // 2, 2, 2, batch_first=True))


def torchxlstm_xlstm(num_items: int) -> nn.Module:
    """torchxlstm's xLSTM with an m and an s layer in place of an nn.LSTM."""
    from torchxlstm.xlstm import xLSTM

    return Between(num_items, WIDTH, xLSTM(WIDTH, WIDTH // 2, 2, ["m", "s"], batch_first=True))


def xlstm_torch(num_items: int) -> nn.Module:
    """xlstm-torch's sLSTM in place of an nn.LSTM."""
    from xlstm_torch.main import sLSTM

    return Between(num_items, WIDTH, sLSTM(WIDTH, WIDTH, 2))


def authors(num_items: int) -> nn.Module:
    """The authors' language model with an m and an s block, as in their readme, on a CPU."""
    from xlstm import (
        FeedForwardConfig,
        mLSTMBlockConfig,
        mLSTMLayerConfig,
        sLSTMBlockConfig,
        sLSTMLayerConfig,
        xLSTMLMModel,
        xLSTMLMModelConfig,
    )

    recurrent = sLSTMLayerConfig(
        backend="vanilla",
        num_heads=4,
        conv1d_kernel_size=4,
        bias_init="powerlaw_blockdependent",
    )
    matrix = mLSTMLayerConfig(conv1d_kernel_size=4, qkv_proj_blocksize=4, num_heads=4)
    settings = xLSTMLMModelConfig(
        vocab_size=num_items + 1,
        mlstm_block=mLSTMBlockConfig(mlstm=matrix),
        slstm_block=sLSTMBlockConfig(
            slstm=recurrent, feedforward=FeedForwardConfig(proj_factor=1.3, act_fn="gelu")
        ),
        context_length=64,
        num_blocks=3,
        embedding_dim=WIDTH,
        slstm_at=[1],
    )
    model = xLSTMLMModel(settings)
    model.reset_parameters()
    return model
