"""Identities of a model in use: calls before, rows looked up, scores by position, driven cells."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tasks.diagnostics.engine import answer, run_questions
from tasks.diagnostics.probe import Probe
from tasks.diagnostics.questions import QUESTIONS
from tasks.diagnostics.subject import Subject

BY_ID = {question.id: question for question in QUESTIONS}


@pytest.fixture
def kind(toy, toy_model_class):
    """`kind(Mixin)`: the healthy program, its module's class derived with `Mixin` in front."""

    def make(wrong: type, **parts) -> Subject:
        own = type("ToyRecommender", (wrong, toy_model_class), {})

        def build(num_items: int, seed: int, embedding_dim: int = 8) -> nn.Module:
            torch.manual_seed(seed)
            return own(num_items, embedding_dim)

        return toy(build_model=build, **parts)

    return make


class KeptByShape:
    """Gives the scores of the first batch of a shape to all others."""

    def forward(self, item_ids):
        kept = self.__dict__.setdefault("kept", {})
        if self.training:
            return super().forward(item_ids)
        if item_ids.shape not in kept:
            kept[item_ids.shape] = super().forward(item_ids)
        return kept[item_ids.shape]


class KeptByContent:
    """Gives the scores a batch once had, whatever the weights are now."""

    def forward(self, item_ids):
        kept = self.__dict__.setdefault("kept", {})
        if self.training:
            return super().forward(item_ids)
        return kept.setdefault(str(item_ids.tolist()), super().forward(item_ids))


class CarriedInTraining:
    """Starts a training batch where the one before ended."""

    def forward(self, item_ids):
        state = self.__dict__.get("kept") if self.training else None
        if state is not None and state.shape[1] != len(item_ids):
            state = None
        hidden, after = self.core(self.dropout(self.embedding(item_ids)), state)
        self.__dict__["kept"] = after.detach()
        return self.head(hidden)


class CutRows:
    """Cuts the rows it looks up to a norm of 0.1."""

    def forward(self, item_ids):
        self.embedding.max_norm = 0.1
        return super().forward(item_ids)


class AllRowsOnce:
    """Keeps the whole table at a norm of 1, as a constraint."""

    def forward(self, item_ids):
        weight = self.embedding.weight.data
        weight[1:] /= weight[1:].norm(dim=1, keepdim=True)
        return super().forward(item_ids)


class ByLength:
    """Divides hidden states by the number of events of the whole row."""

    def forward(self, item_ids):
        hidden, _ = self.core(self.dropout(self.embedding(item_ids)))
        return self.head(hidden / (item_ids > 0).sum(1)[:, None, None].clamp(min=1))


class Rectified:
    """Adds something to a few scores behind a ReLU."""

    def forward(self, item_ids):
        scores = super().forward(item_ids).relu()
        seen = nn.functional.one_hot(item_ids, scores.shape[-1]).cumsum(1) > 0
        return scores + 0.5 * seen


class NeverScored:
    """Gives three items one score after every history."""

    def forward(self, item_ids):
        scores = super().forward(item_ids)
        return torch.cat([scores[..., :-3], torch.full_like(scores[..., -3:], -1e9)], dim=-1)


class Fading:
    """Halves hidden states at every position."""

    factor = 0.5

    def forward(self, item_ids):
        hidden, _ = self.core(self.dropout(self.embedding(item_ids)))
        place = torch.arange(hidden.shape[1]).to(hidden)
        return self.head(hidden * (self.factor**place)[:, None])


class Growing(Fading):
    factor = 2.0


class Tied:
    """Scores items by their embedding."""

    shift = 0

    def forward(self, item_ids):
        hidden, _ = self.core(self.dropout(self.embedding(item_ids)))
        weight = self.embedding.weight
        rows = torch.cat([weight[:1], weight[1:].roll(self.shift, 0)])
        return hidden @ rows.T


class TiedToNeighbours(Tied):
    shift = 1


class UnusedLayer:
    """Runs a second recurrent layer and returns the result of the first."""

    def __init__(self, num_items, embedding_dim=8, dropout=0.2):
        super().__init__(num_items, embedding_dim, dropout)
        self.second = nn.GRU(embedding_dim, embedding_dim, batch_first=True)

    def forward(self, item_ids):
        hidden, _ = self.core(self.dropout(self.embedding(item_ids)))
        self.second(hidden)
        return self.head(hidden)


@pytest.mark.parametrize(
    ("wrong", "question", "stage"),
    [
        (KeptByShape, "states_start_clean", "state"),
        (KeptByContent, "states_start_clean", "state"),
        (KeptByContent, "head_reads_right_state", "inference"),
        (CarriedInTraining, "states_start_clean", "state"),
        (CutRows, "embeddings_learn", "embedding"),
        (ByLength, "order_and_flow", "causal"),
        (Rectified, "output_fits_task", "output"),
        (NeverScored, "output_fits_task", "output"),
        (TiedToNeighbours, "output_fits_task", "output"),
        (Fading, "state_norms_bounded", "numeric"),
        (Growing, "state_norms_bounded", "numeric"),
        (UnusedLayer, "gradients_flow", "core"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_wrong_module_is_found(kind, wrong: type, question: str, stage: str) -> None:
    finding = answer(BY_ID[question], Probe(kind(wrong)))
    assert (finding.verdict, finding.stage) == ("faulty", stage), finding.sentence


@pytest.mark.parametrize(
    ("sound", "question"),
    [(AllRowsOnce, "embeddings_learn"), (Tied, "output_fits_task"), (Tied, "order_and_flow")],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_sound_module_is_left_alone(kind, sound: type, question: str) -> None:
    finding = answer(BY_ID[question], Probe(kind(sound)))
    assert finding.verdict == "healthy", finding.sentence


def test_written_rows_explain_whatever_else_is_red(kind) -> None:
    asked = [BY_ID[id] for id in ("order_and_flow", "states_start_clean", "embeddings_learn")]
    diagnosis = run_questions(Probe(kind(CutRows)), asked)
    assert diagnosis.finding("states_start_clean").verdict == "faulty"
    assert (diagnosis.stage, diagnosis.question) == ("embedding", "embeddings_learn")


class UnstableCell(nn.Module):
    """An sLSTM-like cell whose stabiliser starts at zero, or as it should."""

    def __init__(self, width: int, start: float) -> None:
        super().__init__()
        self.start = start
        self.write, self.keep, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x):
        m = torch.full_like(x[:, 0], self.start)
        c, n, outputs = torch.zeros_like(m), torch.zeros_like(m), []
        for event in x.unbind(1):
            i, f = self.write(event), nn.functional.logsigmoid(self.keep(event))
            before, m = m, torch.maximum(f + m, i)
            keep, write = (f + before - m).exp(), (i - m).exp()
            c, n = keep * c + write * self.value(event).tanh(), keep * n + write
            outputs.append(c / n)
        return torch.stack(outputs, dim=1)


@pytest.mark.parametrize(
    ("start", "verdict"), [(0.0, "faulty"), (-torch.inf, "healthy")], ids=["zero", "minus_infinity"]
)
def test_cells_of_unknown_classes_are_driven(toy, toy_model_class, start, verdict) -> None:
    class ScalarLSTM(UnstableCell):
        pass

    class Model(toy_model_class):
        def __init__(self, num_items, embedding_dim=8):
            super().__init__(num_items, embedding_dim)
            self.core = ScalarLSTM(embedding_dim, start)

        def forward(self, item_ids):
            return self.head(self.core(self.embedding(item_ids)))

    def build(num_items: int, seed: int, embedding_dim: int = 8) -> nn.Module:
        torch.manual_seed(seed)
        return Model(num_items, embedding_dim)

    finding = answer(BY_ID["clipping_stops_explosions"], Probe(toy(build_model=build)))
    assert finding.verdict == verdict, finding.sentence
    if verdict == "faulty":
        assert "keep +120, write -120" in finding.sentence
