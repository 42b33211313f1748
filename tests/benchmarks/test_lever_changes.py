"""Changes around a training, each on a training of a few windows."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.lever_changes import listed
from benchmarks.lever_changes.averaging import average_weights
from benchmarks.lever_changes.dropout import drop_embeddings, drop_in_blocks, hide_events
from benchmarks.lever_changes.forget_gate import start_forget_bias
from benchmarks.lever_changes.muon import make_muon, orthogonalize
from benchmarks.lever_changes.rates import make_scaled_adamw
from benchmarks.lever_changes.schedule_free import ScheduleFreeAdamW, use_schedule_free
from benchmarks.lever_changes.scores import learn_temperature, normalize
from tasks.settings import Settings
from tasks.training.assemble import Trial
from tasks.training.batches import WindowBatches
from tasks.training.loop import train
from tasks.training.models import model_spec
from tasks.training.objective import FullCrossEntropy
from tasks.training.plan import TrainingPlan
from tasks.training.step import TrainingParts, train_step

NUM_ITEMS = 12


@pytest.fixture
def trial():
    """Nine users walk around a ring of items; training must find the next one."""
    section = {
        **Settings().train.xlstm.model_dump(),
        **{"embedding_dim": 16, "pattern": "s", "num_heads": 2, "dropout": 0.0},
    }
    items = np.concatenate([(np.arange(10) + user) % NUM_ITEMS + 1 for user in range(9)])
    batches = WindowBatches(
        items.astype(np.int32), np.arange(10) * 10, max_seq_len=9, batch_size=9, seed=0
    )
    recommender = model_spec("xlstm").build(NUM_ITEMS, section, max_seq_len=9, seed=0)
    losses = FullCrossEntropy()
    batch = next(iter(batches.epoch(0)))

    @torch.no_grad()
    def validate(model):
        hidden, _ = model.encode(batch.item_ids, mask=batch.mask)
        return {"minus_loss": -float(losses(model, hidden, batch))}

    plan = TrainingPlan(
        max_epochs=12, monitor="minus_loss", learning_rate=0.02, warmup_steps=0, patience=12
    )
    parts = TrainingParts(
        model=recommender.model, objective=losses, batches=batches, validate=validate
    )
    return Trial(recommender, parts, plan, batches)


def loss_after(trial):
    return -train(trial.parts, trial.plan).best_value


@pytest.mark.parametrize("name", [name for name in listed.CHANGES if not name.startswith("width")])
def test_changed_training_learns(trial, name):
    start = -trial.parts.validate(trial.parts.model.eval())["minus_loss"]
    assert start > 2.3
    assert loss_after(listed.CHANGES[name].apply(trial)) < start - 0.2


def test_changes_of_settings_are_kept_under_their_section():
    assert listed.LEVERS["gbce"].settings == {"shared": {"loss": "gbce"}}
    assert listed.LEVERS["width-128-matrix-rate-0.5"].settings == {"xlstm": {"embedding_dim": 128}}


@pytest.mark.parametrize("change", [average_weights, use_schedule_free], ids=["moving", "free"])
def test_what_is_validated_is_what_is_kept(trial, change):
    chosen = {"decay": 0.5} if change is average_weights else {}
    changed = change(trial, **chosen)
    record = train(changed.parts, changed.plan)
    assert trial.parts.validate(trial.parts.model.eval())["minus_loss"] == record.best_value


def test_training_goes_on_from_the_weights_and_not_from_their_average(trial):
    start = {name: tensor.clone() for name, tensor in trial.parts.model.state_dict().items()}
    plain = train(trial.parts, trial.plan)
    trial.parts.model.load_state_dict(start)
    changed = average_weights(trial, decay=0.5)
    averaged = train(changed.parts, changed.plan)
    losses = [[row["train/loss"] for row in record.history] for record in (plain, averaged)]
    assert losses[0] == losses[1]
    assert plain.best_value != averaged.best_value


def test_average_follows_the_weights(trial):
    own = [p.detach().clone() for p in trial.parts.model.parameters()]
    changed = average_weights(trial, decay=0.98)
    train(changed.parts, replace(changed.plan, max_epochs=1))
    shown = [p.detach().clone() for p in trial.parts.model.parameters()]
    assert max(float((a - b).abs().max()) for a, b in zip(own, shown, strict=True)) > 0.01


def test_schedule_free_follows_the_published_recursion():
    weight = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimizer = ScheduleFreeAdamW(
        [{"params": [weight], "weight_decay": 0.1}], 0.5, betas=(0.9, 0.8), eps=0.0
    )
    x = z = y = 2.0
    v = total = 0.0
    for t in range(1, 5):
        weight.grad = 3.0 * weight.detach()
        optimizer.step()
        g = 3.0 * y
        v = 0.8 * v + 0.2 * g * g
        rate = 0.5 * (1 - 0.8**t) ** 0.5
        total += rate**2
        z = z - rate * (g / v**0.5 + 0.1 * y)
        x = x + rate**2 / total * (z - x)
        y = 0.1 * z + 0.9 * x
        assert float(weight.detach()) == pytest.approx(y, rel=1e-6)
        assert float(optimizer.averages()[0]) == pytest.approx(x, rel=1e-6)


def test_orthogonalised_matrices_keep_singular_vectors():
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(3, 24, 8, generator=generator, dtype=torch.float64)
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    found = left.mT @ orthogonalize(matrices) @ right.mT
    values = found.diagonal(dim1=-2, dim2=-1)
    assert torch.allclose(found, torch.diag_embed(values), atol=1e-9)
    assert values.min() > 0.6
    assert values.max() < 1.3


@pytest.mark.parametrize("make", [make_muon, make_scaled_adamw], ids=["muon", "adamw"])
def test_rates_are_set_for_all_parameters_as_numbers_or_tensors(trial, make):
    model = trial.parts.model
    batch = next(iter(trial.batches.epoch(0)))
    found = []
    for rate in (0.01, torch.tensor(0.01), 0.0):
        start = {n: t.clone() for n, t in model.state_dict().items()}
        optimizer = make(model, trial.plan)
        for group in optimizer.param_groups:
            group["lr"] = rate
        train_step(model, trial.parts.objective, batch, optimizer, trial.plan)
        found.append({n: t - start[n] for n, t in model.state_dict().items()})
        model.load_state_dict(start)
        assert {id(g["lr"]) for g in optimizer.param_groups} == {id(rate)}
    number, tensor, nothing = found
    for name, change in number.items():
        assert torch.allclose(change, tensor[name], atol=1e-7), name
        assert not nothing[name].any(), name
    assert all(bool(change.any()) for change in number.values())


def test_muon_trains_the_matrices_of_the_blocks_alone(trial):
    muon, adamw = make_muon(trial.parts.model, trial.plan).optimizers
    chosen = {id(p) for group in muon.param_groups for p in group["params"]}
    names = {n for n, p in trial.parts.model.named_parameters() if id(p) in chosen}
    block = "sequence_model.blocks.0."
    assert names == {
        block + "convolved_gates.weight",
        block + "raw_gates.weight",
        block + "recurrence.recurrent_weight",
        block + "feed_forward.proj_up.weight",
        block + "feed_forward.proj_down.weight",
    }
    others = sum(len(group["params"]) for group in adamw.param_groups)
    assert others + len(names) == len(list(trial.parts.model.parameters()))


def test_slower_items_move_less(trial):
    moved = []
    for share in (1.0, 0.25):
        model = trial.parts.model
        before = {n: t.clone() for n, t in model.state_dict().items()}
        optimizer = make_scaled_adamw(model, trial.plan, embedding=share)
        batch = next(iter(trial.batches.epoch(0)))
        train_step(model, trial.parts.objective, batch, optimizer, trial.plan)
        moved.append({n: (t - before[n]).norm() for n, t in model.state_dict().items()})
        model.load_state_dict(before)
    items, matrix = "item_embedding.weight", "sequence_model.blocks.0.raw_gates.weight"
    assert float(moved[1][items] / moved[0][items]) == pytest.approx(0.25, rel=1e-3)
    assert moved[1][matrix] == moved[0][matrix]


def test_events_are_hidden_whole_and_only_in_training(trial):
    module = hide_events(trial, 0.5).parts.model.dropout
    x = torch.ones(4, 50, 3)
    torch.manual_seed(0)
    kept = module.train()(x)
    assert set(kept.sum(-1).flatten().tolist()) == {0.0, 3.0}
    assert 0.35 < kept.mean() < 0.65
    assert torch.equal(module.eval()(x), x)


def test_dropout_is_changed_in_one_place(trial):
    model = trial.parts.model
    block = model.sequence_model.blocks[0]
    drop_embeddings(trial, 0.3)
    assert (model.dropout.p, block.dropout.p, block.feed_forward.dropout.p) == (0.3, 0.0, 0.0)
    drop_in_blocks(trial, 0.2)
    assert (model.dropout.p, block.dropout.p, block.feed_forward.dropout.p) == (0.3, 0.2, 0.2)


def test_forget_gate_starts_where_it_is_told(trial):
    bias = trial.parts.model.sequence_model.blocks[0].recurrence.bias
    others = bias.detach()[:, [0, 2, 3]].clone()
    start_forget_bias(trial, 3.0)
    assert (bias[:, 1] == 3.0).all()
    assert torch.equal(bias[:, [0, 2, 3]], others)


def test_learned_temperature_starts_at_the_fixed_one_and_moves(trial):
    items, lengths = torch.tensor([[1, 2, 3]]), torch.tensor([3])
    model = normalize(trial, 0.25).parts.model.eval()
    fixed = model.last_scores(items, lengths).detach()
    assert fixed[:, 1:].abs().max() <= 4.0 + 1e-5
    learn_temperature(trial, 0.25)
    assert torch.allclose(model.last_scores(items, lengths)[:, 1:], fixed[:, 1:], atol=1e-5)
    train(trial.parts, trial.plan)
    assert 0 < float(model.temperature.detach()) != 0.25
