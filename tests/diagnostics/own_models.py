"""Differently shaped sequence models as users write them, sound ones and broken ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

ITEMS = 30
WIDTH = 8


class Model(nn.Module):
    """Embedding, GRU, linear head."""

    def __init__(self, num_items: int = ITEMS, width: int = WIDTH) -> None:
        super().__init__()
        self.num_items = num_items
        self.embedding = nn.Embedding(num_items + 1, width, padding_idx=0)
        self.core = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, num_items + 1)

    def hidden(self, item_ids: Tensor) -> Tensor:
        return self.core(self.embedding(item_ids))[0]

    def forward(self, item_ids: Tensor) -> Tensor:
        return self.head(self.hidden(item_ids))


class TimeFirstWithState(Model):
    def __init__(self, num_items: int = ITEMS) -> None:
        super().__init__(num_items)
        self.core = nn.GRU(WIDTH, WIDTH)

    def forward(self, item_ids: Tensor, hx: Tensor | None = None):
        output, state = self.core(self.embedding(item_ids), hx)
        return self.head(output), state


class Packed(Model):
    def __init__(self, num_items: int = ITEMS) -> None:
        super().__init__(num_items)
        self.core = nn.LSTM(WIDTH, WIDTH, batch_first=True)

    def forward(self, item_ids: Tensor, lengths: Tensor) -> Tensor:
        given = pack_padded_sequence(
            self.embedding(item_ids), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        _, (state, _) = self.core(given)
        return self.head(state[-1])


class PackedEverywhere(Packed):
    def forward(self, item_ids: Tensor, lengths: Tensor) -> Tensor:
        given = pack_padded_sequence(
            self.embedding(item_ids), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        width = item_ids.shape[1]
        output, _ = pad_packed_sequence(self.core(given)[0], batch_first=True, total_length=width)
        return self.head(output)


class Attention(Model):
    """One pre-norm block of causal attention that leaves padded keys out."""

    causal = True

    def __init__(self, num_items: int = ITEMS) -> None:
        super().__init__(num_items)
        self.core = nn.MultiheadAttention(WIDTH, 2, batch_first=True, dropout=0.1)
        self.norm = nn.LayerNorm(WIDTH)

    def hidden(self, item_ids: Tensor) -> Tensor:
        width = item_ids.shape[1]
        x = self.embedding(item_ids)
        hides = torch.ones(width, width, dtype=torch.bool).triu(1) & self.causal
        # A padded position sees itself, so that no row of the softmax is empty.
        keys = (item_ids == 0)[:, None] & ~torch.eye(width, dtype=torch.bool)
        mask = (hides | keys).repeat_interleave(2, dim=0)
        y = self.norm(x)
        return x + self.core(y, y, y, attn_mask=mask, need_weights=False)[0]


class BothWays(Attention):
    causal = False


class LeftLast(Attention):
    def forward(self, item_ids: Tensor) -> Tensor:
        return self.head(self.hidden(item_ids)[:, -1])


class HiddenOnly(Model):
    def forward(self, input_ids: Tensor, attention_mask: Tensor):
        return {"last_hidden_state": self.hidden(input_ids)}


class LastHidden(Model):
    def forward(self, item_ids: Tensor, item_seq_len: Tensor) -> Tensor:
        rows = torch.arange(len(item_ids))
        return self.hidden(item_ids)[rows, item_seq_len - 1]


class Items(Model):
    """Items from 0, padding last; one score per item."""

    def __init__(self, num_items: int = ITEMS) -> None:
        super().__init__(num_items)
        self.embedding = nn.Embedding(num_items + 1, WIDTH, padding_idx=num_items)
        self.head = nn.Linear(WIDTH, num_items)


class Special(Model):
    """Padding 0, a mask token 1, items from 2."""

    def __init__(self, num_items: int = ITEMS) -> None:
        super().__init__(num_items)
        self.embedding = nn.Embedding(num_items + 2, WIDTH, padding_idx=0)
        self.head = nn.Linear(WIDTH, num_items + 2)


class MaskedMean(Model):
    """Mean of all events so far, and the last one."""

    def forward(self, item_ids: Tensor, mask: Tensor) -> Tensor:
        x = self.embedding(item_ids) * mask[..., None]
        mean = x.cumsum(dim=1) / mask.cumsum(dim=1).clamp(min=1)[..., None]
        return self.head(torch.tanh(mean + x))


class MeanOfAll(Model):
    """Mean over the whole row, padding and future included."""

    def forward(self, item_ids: Tensor) -> Tensor:
        x = self.embedding(item_ids)
        return self.head(torch.tanh(x + x.mean(dim=1, keepdim=True)))


class MeanWithPadding(Model):
    """Last scores of a mean that counts padded positions."""

    def forward(self, item_ids: Tensor) -> Tensor:
        return self.head(torch.tanh(self.embedding(item_ids).mean(dim=1)))


class AlwaysDropout(Model):
    def hidden(self, item_ids: Tensor) -> Tensor:
        x = nn.functional.dropout(self.embedding(item_ids), 0.3)  # training=True by default
        return self.core(x)[0]


class BothDirections(Model):
    def __init__(self, num_items: int = ITEMS) -> None:
        super().__init__(num_items)
        self.core = nn.GRU(WIDTH, WIDTH // 2, batch_first=True, bidirectional=True)


class Normed(Model):
    """BatchNorm over positions, as it should be in eval mode."""

    def __init__(self, num_items: int = ITEMS) -> None:
        super().__init__(num_items)
        self.norm = nn.BatchNorm1d(WIDTH)

    def hidden(self, item_ids: Tensor) -> Tensor:
        return self.norm(super().hidden(item_ids).transpose(1, 2)).transpose(1, 2)


class NormedByBatch(Normed):
    """BatchNorm without running statistics: rows are mixed at inference too."""

    def __init__(self, num_items: int = ITEMS) -> None:
        super().__init__(num_items)
        self.norm = nn.BatchNorm1d(WIDTH, track_running_stats=False)


class KeepsState(Model):
    def __init__(self, num_items: int = ITEMS) -> None:
        super().__init__(num_items)
        self.state: Tensor | None = None

    def hidden(self, item_ids: Tensor) -> Tensor:
        state = self.state
        if state is not None and state.shape[1] != len(item_ids):
            state = None
        output, after = self.core(self.embedding(item_ids), state)
        self.state = after.detach()
        return output


class Probabilities(Model):
    """Softmax before a loss that takes another."""

    def forward(self, item_ids: Tensor) -> Tensor:
        return super().forward(item_ids).softmax(dim=-1)


class Detached(Model):
    def hidden(self, item_ids: Tensor) -> Tensor:
        return super().hidden(item_ids).detach()


class Sampled(Model):
    """Makes its own loss: a softmax over the target and a few items drawn with the batch."""

    def sampled_loss(self, item_ids: Tensor, targets: Tensor, asked: Tensor) -> Tensor:
        hidden = self.hidden(item_ids)[asked]
        drawn = torch.randint(1, self.num_items + 1, (len(hidden), 5))
        items = torch.cat([targets[asked][:, None], drawn], dim=1)
        scores = (self.head.weight[items] * hidden[:, None]).sum(dim=-1) + self.head.bias[items]
        return nn.functional.cross_entropy(scores, torch.zeros(len(items), dtype=torch.int64))


class Tied(Model):
    """An item table held outside of the module's own embedding, and a head that reads it."""

    def __init__(self, num_items: int = ITEMS) -> None:
        super().__init__(num_items)
        self.table = nn.Parameter(0.1 * torch.randn(num_items + 1, WIDTH))
        del self.embedding, self.head

    def forward(self, item_ids: Tensor) -> Tensor:
        return self.core(self.table[item_ids] * (item_ids > 0)[..., None])[0]


class NarrowState(Model):
    """A recurrence that keeps its state in float32 whatever it is given."""

    def hidden(self, item_ids: Tensor) -> Tensor:
        state = torch.zeros(1, len(item_ids), WIDTH)
        x, outputs = self.embedding(item_ids), []
        for place in range(item_ids.shape[1]):
            output, after = self.core(x[:, place : place + 1], state.to(x))
            state = state.clone()
            state[:] = after
            outputs.append(output)
        return torch.cat(outputs, dim=1)


class Faint(Model):
    """Weights in a product of three small factors: their first gradients are below Adam's eps."""

    def __init__(self, num_items: int = ITEMS) -> None:
        super().__init__(num_items)
        self.table = nn.Embedding(num_items + 1, WIDTH, padding_idx=0)
        self.inner = nn.Linear(WIDTH, WIDTH, bias=False)
        self.outer = nn.Linear(WIDTH, WIDTH, bias=False)
        for part in (self.table, self.inner, self.outer):
            nn.init.normal_(part.weight, std=1e-4)

    def hidden(self, item_ids: Tensor) -> Tensor:
        return super().hidden(item_ids) + self.outer(self.inner(self.table(item_ids)))
