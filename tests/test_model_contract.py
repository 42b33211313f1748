"""What every model must keep, whatever it is: one set of tests over all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tasks.baselines.contract import Recommender
from tasks.evaluation.ranking import rank_targets, top_items
from tasks.settings import TrainSettings
from tasks.training.models import MODELS, CountModel, NeuralModel, load_recommender

NUM_ITEMS = 25
MAX_SEQ_LEN = 12
TOLERANCE = 1e-5
"""Of scores of order 1: other batch shapes may add float32 numbers in another order."""


@dataclass(frozen=True)
class Case:
    """A model to hold to the contract, and what differs between models by design."""

    id: str
    spec: CountModel | NeuralModel
    overrides: dict
    reads_history: bool
    draws_numbers: bool

    def make(self, seed: int) -> Recommender:
        """Fit or build the model on random sequences."""
        settings = getattr(TrainSettings(), self.spec.name).model_dump() | self.overrides
        if isinstance(self.spec, CountModel):
            items, offsets = random_sequences()
            return self.spec.fit(items, offsets, NUM_ITEMS, settings, seed)
        settings |= {"embedding_dim": 8}
        recommender = self.spec.build(NUM_ITEMS, settings, max_seq_len=MAX_SEQ_LEN, seed=seed)
        # Fresh weights may leave parts unused (zero gates, unit norms): move all of them, the
        # padding row of the embedding included.
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in recommender.model.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        return recommender


def cases() -> Iterator[Case]:
    for spec in MODELS:
        reads_history = spec.name != "popularity"
        draws_numbers = spec.name not in ("popularity", "transitions")
        yield Case(spec.name, spec, {}, reads_history, draws_numbers)
        if isinstance(spec, NeuralModel):
            yield Case(f"{spec.name}-time-gaps", spec, {"time_gaps": True}, True, True)


def random_sequences() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    offsets = np.concatenate([[0], np.cumsum(generator.integers(2, 20, 80))])
    items = np.minimum(generator.geometric(0.12, offsets[-1]), NUM_ITEMS)
    return items.astype(np.int32), offsets


@dataclass(frozen=True)
class Batch:
    """Histories of 0 to 9 events in 10 columns."""

    item_ids: Tensor
    lengths: Tensor
    times: Tensor

    def replace(self, **changes: Tensor) -> Batch:
        return Batch(**{**self.__dict__, **changes})


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([9, 1, 0, 5, 7, 3])
    item_ids = torch.randint(1, NUM_ITEMS + 1, (6, 10), generator=generator)
    gaps = torch.randint(0, 10**10, (6, 10), generator=generator)
    is_real = torch.arange(10) < lengths[:, None]
    times = 10**15 + gaps.cumsum(dim=1)
    return Batch(item_ids * is_real, lengths, times * is_real)


@pytest.fixture(scope="module", params=cases(), ids=lambda case: case.id)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(scope="module")
def model(case: Case) -> Recommender:
    return case.make(seed=0)


def score(model: Recommender, batch: Batch) -> Tensor:
    return model.score(batch.item_ids, batch.lengths, batch.times)


def assert_same_scores(found: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_keeps_the_protocol(model: Recommender, case: Case) -> None:
    assert isinstance(model, Recommender)
    assert (model.name, model.num_items) == (case.spec.name, NUM_ITEMS)


def test_scores_every_real_item_and_never_padding(model: Recommender, batch: Batch) -> None:
    scores = score(model, batch)
    assert scores.shape == (6, NUM_ITEMS + 1)
    assert scores.dtype == torch.float32
    assert (scores[:, 0] == -torch.inf).all()
    assert scores[:, 1:].isfinite().all()
    assert top_items(scores, NUM_ITEMS).min() >= 1
    # Without padding the ranks of all items together are at least 1 + 2 + ... + NUM_ITEMS.
    for item in range(1, NUM_ITEMS + 1):
        assert rank_targets(scores, torch.full((6,), item)).max() <= NUM_ITEMS


def test_is_deterministic_under_its_seed(model: Recommender, case: Case, batch: Batch) -> None:
    expected = score(model, batch)
    assert torch.equal(score(case.make(seed=0), batch), expected)
    assert torch.equal(score(case.make(seed=1), batch), expected) is not case.draws_numbers


def test_scoring_draws_no_random_numbers(model: Recommender, batch: Batch) -> None:
    torch_state = torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()
    first = score(model, batch)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
    assert torch.equal(score(model, batch), first)


def test_is_causal(model: Recommender, batch: Batch) -> None:
    generator = torch.Generator().manual_seed(2)
    later_items = torch.randint(1, NUM_ITEMS + 1, batch.item_ids.shape, generator=generator)
    is_later = torch.arange(10) >= batch.lengths[:, None]
    future = batch.replace(
        item_ids=torch.where(is_later, later_items, batch.item_ids),
        times=torch.where(is_later, 3 * 10**15, batch.times),
    )
    assert_same_scores(score(model, future), score(model, batch))


def test_reads_the_history_it_is_given(model: Recommender, case: Case, batch: Batch) -> None:
    has_history = batch.lengths > 0
    rows = torch.arange(6)[has_history]
    last = batch.lengths[has_history] - 1
    item_ids = batch.item_ids.clone()
    item_ids[rows, last] = item_ids[rows, last] % NUM_ITEMS + 1
    before, after = score(model, batch), score(model, batch.replace(item_ids=item_ids))
    changed = (after - before)[:, 1:].abs().amax(dim=1) > 100 * TOLERANCE
    expected = has_history if case.reads_history else torch.zeros(6, dtype=torch.bool)
    assert torch.equal(changed, expected)


def test_reads_times_where_it_is_told_to(model: Recommender, case: Case, batch: Batch) -> None:
    is_last = torch.arange(10) == batch.lengths[:, None] - 1
    later = batch.replace(times=batch.times + is_last * 10**12)
    changed = (score(model, later) - score(model, batch))[:, 1:].abs().amax(dim=1) > 100 * TOLERANCE
    # The gap before the first event of a history is no gap.
    expected = (batch.lengths > 1) & bool(case.overrides.get("time_gaps"))
    assert torch.equal(changed, expected)


def test_is_padding_blind(model: Recommender, batch: Batch) -> None:
    wider = Batch(
        torch.nn.functional.pad(batch.item_ids, (0, 7)),
        batch.lengths,
        torch.nn.functional.pad(batch.times, (0, 7)),
    )
    narrower = Batch(batch.item_ids[:, :9], batch.lengths, batch.times[:, :9])
    assert_same_scores(score(model, wider), score(model, batch))
    assert_same_scores(score(model, narrower), score(model, batch))


def test_is_batch_independent(model: Recommender, batch: Batch) -> None:
    together = score(model, batch)
    for row in range(6):
        alone = Batch(*(part[row : row + 1] for part in vars(batch).values()))
        assert_same_scores(score(model, alone), together[row : row + 1])
    order = torch.tensor([3, 0, 5, 2, 1, 4])
    shuffled = Batch(*(part[order] for part in vars(batch).values()))
    assert_same_scores(score(model, shuffled), together[order])


def test_users_without_history_get_scores(model: Recommender, batch: Batch) -> None:
    nobody = Batch(
        torch.zeros(2, 0, dtype=torch.long),
        torch.zeros(2, dtype=torch.long),
        torch.zeros(2, 0, dtype=torch.long),
    )
    assert_same_scores(score(model, nobody)[:1], score(model, batch)[2:3])


def test_history_longer_than_the_model_reads_is_accepted(model: Recommender) -> None:
    generator = torch.Generator().manual_seed(4)
    item_ids = torch.randint(1, NUM_ITEMS + 1, (3, 90), generator=generator)
    lengths = torch.tensor([90, 60, 2])
    times = 10**15 + torch.arange(90).expand(3, 90) * 10**9
    scores = model.score(item_ids, lengths, times)
    assert scores[:, 1:].isfinite().all()
    alone = model.score(item_ids[2:, :2], lengths[2:], times[2:, :2])
    assert_same_scores(scores[2:], alone)


def test_inputs_stay_as_they_were(model: Recommender, batch: Batch) -> None:
    before = [part.clone() for part in vars(batch).values()]
    score(model, batch)
    assert all(map(torch.equal, vars(batch).values(), before))


def test_scores_are_the_callers_to_change(model: Recommender, batch: Batch) -> None:
    expected = score(model, batch)
    with torch.inference_mode():
        score(model, batch).fill_(7.0)
    assert torch.equal(score(model, batch), expected)


@pytest.mark.parametrize("load", [load_recommender, None], ids=["by name", "by class"])
def test_save_and_load_give_equal_scores(
    model: Recommender, batch: Batch, tmp_path: Path, load: Callable | None
) -> None:
    folder = tmp_path / "models" / "seed_0"
    model.save(folder)
    assert {path.name for path in folder.iterdir()} == {"model.json", "model.safetensors"}
    again = (load or type(model).load)(folder)
    assert type(again) is type(model)
    assert (again.name, again.num_items) == (model.name, model.num_items)
    assert torch.equal(score(again, batch), score(model, batch))


def test_saving_twice_gives_the_same_bytes(model: Recommender, tmp_path: Path) -> None:
    model.save(tmp_path / "a")
    model.save(tmp_path / "b")
    for name in ("model.json", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
