"""What the plots show is what the models and data do."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.data import fetch_stage, prepare_stage
from tasks.data.prepared import PreparedData
from tasks.diagnostics.measurements.ablations import USED
from tasks.diagnostics.plots import hidden, influence, inside, order
from tasks.diagnostics.plots.data_shape import popularity_curve, sequence_lengths
from tasks.diagnostics.plots.sample import Sample, choose_users, read_sample
from tasks.diagnostics.plots.write import PLOTS_FOLDER, measure_plots, write_plots
from tasks.settings import Settings, settings_from_dict
from tasks.training.models import NeuralModel, NeuralRecommender, model_spec
from xlstm_model import MLSTMBlock

MAX_SEQ_LEN = 12


def build(name: str, num_items: int, settings: Settings) -> NeuralRecommender:
    spec = model_spec(name)
    assert isinstance(spec, NeuralModel)
    section = getattr(settings.train, name).model_dump()
    return spec.build(num_items, section, max_seq_len=MAX_SEQ_LEN, seed=3)


@pytest.fixture(scope="module")
def settings() -> Settings:
    narrow = {"embedding_dim": 8}
    return settings_from_dict(
        {
            "data": {
                "source": "synthetic",
                "synthetic": {"num_users": 40, "num_items": 20, "min_length": 6, "max_length": 20},
            },
            "train": {
                "shared": {"max_seq_len": MAX_SEQ_LEN},
                "gru": narrow,
                "sasrec": {**narrow, "num_heads": 2},
                "xlstm": {**narrow, "num_heads": 2},
            },
            "tracking": {"enabled": False},
        }
    )


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, settings: Settings) -> Path:
    folder = tmp_path_factory.mktemp("plots")
    fetch_stage.run(settings, folder)
    prepare_stage.run(settings, folder)
    return folder


@pytest.fixture(scope="module")
def data(workspace: Path) -> PreparedData:
    return PreparedData.load(workspace / "data" / "prepared")


@pytest.fixture(scope="module")
def sample(data: PreparedData) -> Sample:
    names = [f"u{user}" for user in range(data.num_users)]
    return read_sample(data, choose_users(data, 3), names, MAX_SEQ_LEN)


@pytest.fixture(scope="module")
def labels(data: PreparedData) -> list[str]:
    return ["", *(f"i{item}" for item in range(1, data.num_items + 1))]


def test_users_are_chosen_from_short_to_long(data: PreparedData) -> None:
    index = choose_users(data, 4)
    lengths = data.train.lengths[data.test.users[index]]
    assert len(set(index.tolist())) == 4
    assert (np.diff(lengths) >= 0).all()
    assert len(choose_users(data, 10_000)) == len(data.test)


def test_implied_attention_is_the_share_in_the_mlstms_own_output(
    data: PreparedData, settings: Settings, sample: Sample, labels: list[str]
) -> None:
    """With one value vector set to zero the cell's output loses exactly that event's part."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 1, 1, 5, 4, generator=generator, dtype=torch.float64)
    igate, fgate = torch.randn(2, 1, 1, 5, generator=generator, dtype=torch.float64)
    cell = MLSTMBlock(8, num_heads=2).recurrence
    parts = []
    for event in range(5):
        only = torch.zeros_like(v)
        only[:, :, event] = v[:, :, event]
        parts.append(cell(q, k, only, igate, fgate)[0][0, 0, -1].norm() / v[0, 0, event].norm())
    expected = torch.stack(parts) / torch.stack(parts).sum()
    found = inside.implied_attention(q, k, igate, fgate)[0, -1]
    torch.testing.assert_close(found, expected.to(found.dtype), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["sasrec", "xlstm"])
def test_attention_shares_add_up_and_never_look_ahead(
    name: str, data: PreparedData, settings: Settings, sample: Sample, labels: list[str]
) -> None:
    rows = inside.attention_maps(build(name, data.num_items, settings), sample, labels)
    assert {row["user"] for row in rows} == set(sample.users)
    assert all(row["read"] <= row["reader"] for row in rows)
    sums: dict[tuple, float] = {}
    for row in rows:
        key = (row["user"], row["layer"], row["reader"])
        sums[key] = sums.get(key, 0.0) + row["share"]
    # Histories here are shorter than what a map shows, so every row is whole.
    assert all(abs(total - 1) < 5e-3 for total in sums.values())


def test_gates_lie_between_0_and_1_and_models_without_cells_have_none(
    data: PreparedData, settings: Settings, sample: Sample, labels: list[str]
) -> None:
    rows = inside.gate_maps(build("xlstm", data.num_items, settings), sample, labels)
    parts = {row["part"] for row in rows}
    assert {"block_0 forget gate", "block_0 output gate", "block_1 memory, head 2"} <= parts
    assert all(0 <= row["value"] <= 1 + 1e-6 for row in rows)
    first = [row["item"] for row in rows if row["user"] == sample.users[0]]
    shown = sample.item_ids[0, : int(sample.lengths[0])].tolist()
    assert first[: len(shown)] == [labels[item] for item in shown]
    assert inside.gate_maps(build("gru", data.num_items, settings), sample, labels) == []
    assert inside.attention_maps(build("gru", data.num_items, settings), sample, labels) == []


def test_gradient_by_lag_is_relative_to_the_last_event(
    data: PreparedData, settings: Settings, sample: Sample
) -> None:
    rows = influence.gradient_by_lag("gru", "new", build("gru", data.num_items, settings), sample)
    assert [row["lag"] for row in rows] == list(range(len(rows)))
    assert rows[0]["value"] == 1.0
    assert 0 < rows[-1]["value"] < rows[0]["value"]


def test_order_is_compared_with_what_counting_loses_by_the_same_shuffle(
    data: PreparedData, settings: Settings
) -> None:
    in_order = (torch.arange(60)[:, None] + torch.arange(MAX_SEQ_LEN)) % data.num_items + 1
    sample = order.OrderSample(
        in_order=in_order,
        shuffled=in_order.flip(1),
        lengths=torch.full((60,), MAX_SEQ_LEN),
        times=torch.zeros_like(in_order),
        targets=in_order[:, -1] % data.num_items + 1,
    )
    # Every item is followed by the next one, always: counting knows it from the last item.
    cycle = np.arange(3 * data.num_items, dtype=np.int32) % data.num_items + 1
    train = dataclasses.replace(data.train, items=cycle, offsets=np.array([0, len(cycle)]))
    known = dataclasses.replace(data, train=train)
    counting, must_lose = order.counting_order_effect(known, sample)
    assert counting[0]["value"] == 1
    assert must_lose == pytest.approx(USED * (1 - counting[1]["value"]))
    model = build("gru", data.num_items, settings)
    rows = order.order_effect("gru", model, sample, must_lose)
    assert [row["histories"] for row in rows] == ["in order", "shuffled"]
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows)
    assert rows[1]["limit"] == pytest.approx(rows[0]["value"] - must_lose)
    assert order.order_effect("gru", model, sample, 0.0)[1]["limit"] is None


def test_counting_that_loses_nothing_by_a_shuffle_sets_no_limit(data: PreparedData) -> None:
    sample = order.order_sample(data, MAX_SEQ_LEN)
    alike = dataclasses.replace(sample, shuffled=sample.in_order)
    rows, must_lose = order.counting_order_effect(data, alike)
    assert must_lose == 0
    assert rows[0]["value"] == rows[1]["value"] > 0


def test_norms_spectrum_map_and_paths(
    data: PreparedData, settings: Settings, sample: Sample, labels: list[str]
) -> None:
    model = build("xlstm", data.num_items, settings)
    norms = hidden.state_norms("xlstm", model, sample)
    assert {"hidden state", "block_0 memory c", "block_1 output h"} <= {r["part"] for r in norms}
    spectrum = hidden.embedding_spectrum("xlstm", "new", model)
    assert {row["weights"] for row in spectrum} == {"new"}
    shares = [row["share"] for row in spectrum]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1)
    items = hidden.embedding_map(model, data.item_counts.tolist(), labels)
    assert [row["events"] for row in items] == sorted(data.item_counts[1:].tolist(), reverse=True)
    paths = hidden.trajectories(model, sample, sample, labels)
    assert {row["user"] for row in paths} == set(sample.users)
    assert hidden.trajectories(model, sample, sample, labels) == paths


def test_circles_hold_nineteen_of_twenty_points(
    data: PreparedData, settings: Settings, sample: Sample, labels: list[str]
) -> None:
    model, counts = build("xlstm", data.num_items, settings), data.item_counts.tolist()

    def within(rows: list[dict], reach: float) -> float:
        return float(np.mean([np.hypot(row["x"], row["y"]) <= reach for row in rows]))

    items = hidden.embedding_map(model, counts, labels)
    reach = hidden.reach_before_training(model, model, counts)
    assert within(items, reach) == pytest.approx(0.95, abs=1 / len(items))
    paths = hidden.trajectories(model, sample, sample, labels)
    assert within(paths, hidden.usual_reach(model, sample)) == pytest.approx(
        0.95, abs=2 / len(paths)
    )
    wider = build("xlstm", data.num_items, settings)
    with torch.no_grad():
        wider.model.item_embedding.weight.mul_(3)
    assert hidden.reach_before_training(model, wider, counts) == pytest.approx(3 * reach, rel=1e-4)


def test_lengths_and_popularity_count_everything() -> None:
    lengths = np.array([0, 1, 2, 2, 700])
    bins = sequence_lengths(lengths)
    assert sum(row["users"] for row in bins) == 4
    assert bins[-1]["high"] == 701
    curve = popularity_curve(np.array([1, 7, 2]), np.array([2, 2, 1, -1]))
    assert [row["events"] for row in curve] == [7, 2, 1]
    assert curve[-1]["share"] == 1.0
    # Half of the targets are the most popular item; the cold one is on no item at all.
    assert [row["targets"] for row in curve] == [0.5, 0.5, 0.75]
    assert popularity_curve(np.zeros(3), np.array([1])) == []
    assert sequence_lengths(np.zeros(2, dtype=np.int64)) == []


def test_files_for_a_run_with_and_without_neural_models(
    workspace: Path, data: PreparedData, settings: Settings
) -> None:
    def measured() -> set[str]:
        plots = measure_plots(
            workspace,
            models=("popularity", "sasrec", "xlstm"),
            seed=0,
            model_under_test="xlstm",
            num_sample_users=2,
            max_seq_len=MAX_SEQ_LEN,
        )
        folder = write_plots(workspace, plots)
        assert folder == workspace / PLOTS_FOLDER
        for path in folder.iterdir():
            assert json.loads(path.read_text(encoding="utf-8"))
        return {path.stem for path in folder.iterdir()}

    assert measured() == {"data"}
    model = build("sasrec", data.num_items, settings)
    model.save(workspace / "artifacts" / "models" / "sasrec" / "seed_0")
    with_attention = measured()
    expected = {"attention", "order", "lags", "norms", "spectrum", "map", "paths", "reach"}
    assert expected <= with_attention
    assert "gates" not in with_attention
    with torch.no_grad():
        model.model.item_embedding.weight[3, 0] = float("nan")
    model.save(workspace / "artifacts" / "models" / "sasrec" / "seed_0")
    assert measured() == {"data", "not_finite"}
