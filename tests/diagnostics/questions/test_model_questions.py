"""G4, G8, G9, G10, G12, G13, G22, X5, X8, X10, X11, X13, X22 on small broken modules."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from tasks.diagnostics.engine import answer
from tasks.diagnostics.measurements import published_blocks, published_equations
from tasks.diagnostics.probe import Probe, shake_weights
from tasks.diagnostics.questions import QUESTIONS, dimensions_fit, residuals_add
from xlstm_model.blocks import MLSTMBlock, SLSTMBlock

BY_ID = {question.id: question for question in QUESTIONS}


@pytest.fixture
def built(toy, toy_model_class):
    """`built(forward, spoil)`: the toy with another forward, or with spoilt new models."""

    def make(forward=None, spoil=lambda model: None, **parts) -> Probe:
        kind = type("Built", (toy_model_class,), {} if forward is None else {"forward": forward})

        def build(num_items: int, seed: int, embedding_dim: int = 8) -> nn.Module:
            torch.manual_seed(seed)
            model = kind(num_items, embedding_dim)
            spoil(model)
            return model

        return Probe(toy(build_model=build, **parts))

    return make


def hidden(self, item_ids):
    return self.core(self.dropout(self.embedding(item_ids)))[0]


def nothing_but_padding_matters(self, item_ids):
    share = (item_ids == 0).float().mean(dim=1)[:, None, None]
    return self.head(hidden(self, item_ids) + share)


def squashed(self, item_ids):
    return torch.sigmoid(self.head(hidden(self, item_ids)))


def shares(self, item_ids):
    return torch.softmax(self.head(hidden(self, item_ids)), dim=-1)


def shut(self, item_ids):
    return self.head(torch.relu(hidden(self, item_ids) - 50.0))


def detached_past(self, item_ids):
    x = self.dropout(self.embedding(item_ids))
    state, outputs = None, []
    for t in range(x.shape[1]):
        y, state = self.core(x[:, t : t + 1], state)
        state = state.detach()
        outputs.append(y)
    return self.head(torch.cat(outputs, dim=1))


def random_start(self, item_ids):
    state = torch.randn(1, len(item_ids), self.core.hidden_size, dtype=self.head.weight.dtype)
    return self.head(self.core(self.embedding(item_ids), state)[0])


def breaks_alone(self, item_ids):
    if item_ids.shape[1] == 1:
        raise IndexError("a single event")
    return self.head(hidden(self, item_ids))


def not_finite(self, item_ids):
    return self.head(hidden(self, item_ids)) / (self.embedding(item_ids).sum(-1, True) * 0)


@pytest.mark.parametrize(
    ("question", "forward", "stage"),
    [
        ("padding_handled", nothing_but_padding_matters, "pad"),
        ("variable_lengths_consistent", nothing_but_padding_matters, "pad"),
        ("output_fits_task", squashed, "output"),
        ("output_fits_task", shares, "output"),
        ("activations_alive", shut, "activation"),
        ("states_not_degenerate", shut, "core"),
        ("gradients_survive_time", detached_past, "gradient_flow"),
        ("states_start_clean", random_start, "stochastic"),
        ("dimensions_fit", breaks_alone, "dims"),
        ("weights_move_and_stay_finite", not_finite, "numeric"),
    ],
)
def test_a_broken_forward_is_found(built, question: str, forward, stage: str) -> None:
    finding = answer(BY_ID[question], built(forward))
    assert (finding.verdict, finding.stage) == ("faulty", stage), finding.sentence


def equal_rows(model: nn.Module) -> None:
    nn.init.constant_(model.embedding.weight, 0.1)


def frozen(model: nn.Module) -> None:
    model.embedding.requires_grad_(False)


def loud_head(model: nn.Module) -> None:
    with torch.no_grad():
        model.head.weight.mul_(100.0)


@pytest.mark.parametrize("spoil", [equal_rows, frozen, loud_head])
def test_a_bad_start_of_embeddings_is_found(built, spoil) -> None:
    finding = answer(BY_ID["embeddings_learn"], built(spoil=spoil))
    assert (finding.verdict, finding.stage) == ("faulty", "embedding"), finding.sentence


def test_a_wrong_recurrence_is_found(built) -> None:
    class Wrong(nn.GRU):
        def forward(self, x, state=None):
            y, state = super().forward(x, state)
            return y * 1.01, state

    def spoil(model: nn.Module) -> None:
        model.core.__class__ = Wrong

    finding = answer(BY_ID["cells_follow_equations"], built(spoil=spoil))
    assert (finding.verdict, finding.stage) == ("faulty", "cell")
    assert answer(BY_ID["cells_follow_equations"], built()).verdict == "healthy"


def test_a_score_from_another_position_is_found(toy) -> None:
    def first(model, item_ids, lengths, times):
        with torch.no_grad():
            return model.eval()(item_ids)[:, 0]

    finding = answer(BY_ID["head_reads_right_state"], Probe(toy(score=first)))
    assert (finding.verdict, finding.stage) == ("faulty", "inference")


class Block(nn.Module):
    """y = x + W x, or what `wrong` makes of it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.map = nn.Linear(width, width)

    def forward(self, x):
        return x + self.map(x)


class Stack(nn.Module):
    def __init__(self, num_items: int, wiring: str, width: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_items + 1, width, padding_idx=0)
        self.blocks = nn.ModuleList(Block(width) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_items + 1)
        self.wiring = wiring

    def forward(self, item_ids):
        first = x = self.embedding(item_ids)
        for block in self.blocks:
            y = block(x)
            x = {"right": y, "first input": y - x + first, "scaled": y + 4 * x, "none": y - x}[
                self.wiring
            ]
        return self.head(self.norm(x))


@pytest.mark.parametrize(
    ("wiring", "verdict"),
    [("right", "healthy"), ("first input", "faulty"), ("scaled", "faulty"), ("none", "faulty")],
)
def test_residual_wirings(toy, wiring: str, verdict: str) -> None:
    said = dataclasses.replace(toy().declared, residual=True)
    parts = {"build_model": lambda num_items, seed: Stack(num_items, wiring), "declared": said}
    assert answer(residuals_add.QUESTION, Probe(toy(variants=(), **parts))).verdict == verdict


def test_no_residuals_are_no_fault_where_none_are_declared(toy) -> None:
    probe = Probe(toy(variants=(), build_model=lambda num_items, seed: Stack(num_items, "none")))
    assert answer(residuals_add.QUESTION, probe).verdict == "not_applicable"


def test_a_variant_that_does_not_build_is_found(toy) -> None:
    probe = Probe(toy(variants=({"embedding_dim": 0, "colour": 1},)))
    finding = answer(dimensions_fit.QUESTION, probe)
    assert (finding.verdict, finding.stage) == ("faulty", "dims")
    assert "colour 1" in finding.sentence


@pytest.mark.parametrize(
    ("kind", "form", "settings"),
    [
        (MLSTMBlock, published_blocks.mlstm_block, {}),
        (SLSTMBlock, published_blocks.slstm_block, {}),
        (SLSTMBlock, published_blocks.slstm_block, {"conv_gates": "ifzo"}),
    ],
)
def test_our_blocks_equal_the_written_out_equations(toy, kind, form, settings) -> None:
    torch.manual_seed(0)
    block = kind(8, num_heads=2, **settings).double()
    shake_weights(block, 0)
    x = torch.randn(2, 7, 8, dtype=torch.float64)
    said = dataclasses.replace(
        toy().declared, residual=True, slstm_conv_gates=settings.get("conv_gates", "if")
    )
    with torch.no_grad():
        expected = form(x, dict(block.named_parameters()), 2, said)
        torch.testing.assert_close(block(x)[0], expected, rtol=1e-10, atol=1e-12)


def test_the_written_out_recurrences_equal_torch() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    for kind, form in (
        (nn.LSTM, published_equations.torch_lstm),
        (nn.GRU, published_equations.torch_gru),
    ):
        layer = kind(3, 4, batch_first=True).double()
        with torch.no_grad():
            weights = dict(layer.named_parameters())
            torch.testing.assert_close(layer(x)[0], form(x, weights, 0))


@pytest.mark.parametrize(
    ("question", "path", "limit"),
    [
        ("residuals_add", "residuals.largest_error", "error"),
        ("cells_follow_equations", "largest_error", "error"),
        ("head_reads_right_state", "oracle.largest_difference", "scores"),
        ("head_reads_right_state", "used.by_old_weights", "used"),
        ("padding_handled", "swap.by_more_padding", "scores"),
        ("variable_lengths_consistent", "swap.by_batching", "scores"),
        ("states_start_clean", "calls.by_earlier_calls", "scores"),
        ("states_start_clean", "calls.by_earlier_training", "scores"),
        ("states_start_clean", "calls.by_old_weights", "scores"),
        ("order_and_flow", "future.by_length", "future"),
        ("embeddings_learn", "lookup.rows_written", "count"),
        ("output_fits_task", "range.constant_items", "constant"),
        ("activations_alive", "ranges.constant_share", "constant"),
        ("dimensions_fit", "failures", "failures"),
    ],
)
def test_at_the_limit(toy, question: str, path: str, limit: str) -> None:
    asked = BY_ID[question]
    said = dataclasses.replace(toy().declared, residual=True)
    parts = {"declared": said}
    if question == "residuals_add":
        parts |= {"variants": (), "build_model": lambda n, seed: Stack(n, "right")}
    evidence = asked.measure(Probe(toy(**parts)))
    value = asked.limits[limit].value
    for given, verdict in ((value, "healthy"), (value * 1.001 + 1e-9, "faulty")):
        assert asked.judge(_with(evidence, path.split("."), given), asked.limits).verdict == verdict


def _with(evidence, path: list[str], value: float):
    """Return evidence with one nested number exchanged."""
    if len(path) > 1:
        value = _with(getattr(evidence, path[0]), path[1:], value)
    return dataclasses.replace(evidence, **{path[0]: value})
