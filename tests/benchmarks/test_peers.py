import json
import math

import numpy as np
import optuna
import pytest
import torch
from torch import nn

from benchmarks.peers import place as places
from benchmarks.peers.fitting import Rules, fit, read_ranks, write_ranks
from benchmarks.peers.place import Budget, Place
from benchmarks.peers.recbole_models import GROUPS, backward_in_groups, prefixes
from benchmarks.peers.rectools_models import keep_known, pad_left
from benchmarks.peers.run import pack, read_sites, reopen
from benchmarks.peers.space import PEERS, draw, peers_of
from tasks.tuning.space import LEARNING_RATES


class Counting:
    """Its one weight counts epochs."""

    def __init__(self):
        self.model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.model.weight)

    def epoch(self):
        with torch.no_grad():
            self.model.weight += 1


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(places.PreparedData, "load", lambda folder: None)
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "peers.json").write_text("{}")
    return Place(folder, "recbole-sasrec", tmp_path / "out")


@pytest.mark.parametrize("name", PEERS)
def test_drawn_settings_lie_in_the_space(name):
    drawn = draw(optuna.create_study(sampler=optuna.samplers.RandomSampler(0)).ask(), name)
    low, high = LEARNING_RATES
    assert low <= drawn.pop("learning_rate") <= high
    assert set(drawn) == set(PEERS[name].choices)
    assert all(value in PEERS[name].choices[setting] for setting, value in drawn.items())


def test_unknown_peer_is_refused():
    with pytest.raises(ValueError, match="expected one of rectools-sasrec"):
        draw(optuna.create_study().ask(), "bert4rec")


def test_every_family_has_two_models_but_the_blocks():
    assert [len(peers_of(family)) for family in ("rectools", "recbole", "xlstm")] == [2, 2, 1]


@pytest.mark.parametrize(
    ("values", "rules", "expected"),
    [
        pytest.param(
            [0.1, 0.3, 0.2, 0.2, 0.9], Rules(5, 2), (0.3, 2, 4, "patience"), id="patience"
        ),
        pytest.param([0.1, 0.2, 0.3], Rules(3, 2), (0.3, 3, 3, "max_epochs"), id="max-epochs"),
        pytest.param([0.1, 0.2], Rules(9, 2, until=0.0), (0.1, 1, 1, "time"), id="time"),
    ],
)
def test_fit_ends_by_its_rules_and_leaves_the_best_weights(values, rules, expected):
    training, left = Counting(), iter(values)
    fitted = fit(training, lambda: next(left), rules)
    assert (fitted.value, fitted.best_epoch, fitted.epochs, fitted.stopped) == expected
    assert training.model.weight.item() == expected[1]


def test_fit_passes_on_what_ends_a_hopeless_training():
    def tell(epoch, value):
        raise optuna.TrialPruned

    with pytest.raises(optuna.TrialPruned):
        fit(Counting(), lambda: 0.1, Rules(3, 3), tell)


def test_kept_ranks_come_back_and_deep_ones_become_one_below_the_cutoffs():
    ranks = np.array([1, 10, 20, 21, 5000])
    assert read_ranks(write_ranks(ranks)).tolist() == [1, 10, 20, 21, 21]


def test_prefixes_are_every_event_but_the_first_with_what_came_before():
    at, lengths = prefixes(np.array([0, 3, 4, 6]), max_len=1)
    assert at.tolist() == [1, 2, 5]
    assert lengths.tolist() == [1, 1, 1]


def test_groups_of_like_length_add_up_to_the_gradient_of_the_batch():
    lengths = torch.tensor([5, 1, 4, 1, 3, 9, 2])
    values = torch.arange(7.0) ** 2
    weight = torch.ones(7, requires_grad=True)
    groups = []

    def mean_loss(group):
        groups.append(lengths[group].tolist())
        return (weight * values)[group].mean()

    chosen = torch.tensor([6, 0, 5, 1, 2])
    backward_in_groups(chosen, lengths, mean_loss)
    assert groups == [[1, 2], [4, 5], [9]]
    assert len(groups) <= GROUPS
    whole = torch.zeros(7).index_fill(0, chosen, 1 / 5) * values
    assert torch.allclose(weight.grad, whole)


def test_histories_are_padded_left_after_unknown_items_are_left_out():
    ids = torch.tensor([[4, 9, 5, 0], [6, 7, 8, 9]])
    is_known = (ids != 0) & (ids != 9)
    kept = keep_known(ids, is_known)
    padded = pad_left(kept, is_known.sum(1), 3)
    assert padded.tolist() == [[0, 4, 5], [6, 7, 8]]
    assert pad_left(kept, is_known.sum(1), 2).tolist() == [[4, 5], [7, 8]]


def test_no_more_trials_are_begun_than_asked_for(place):
    budget = Budget(trials=2, seeds=1, search_until=math.inf, until=math.inf)
    assert place.next_trial(budget) is not None
    assert place.next_trial(budget) is not None
    assert place.next_trial(budget) is None


def test_seeds_wait_for_the_search_and_are_given_out_once(place):
    budget = Budget(trials=1, seeds=2, search_until=math.inf, until=math.inf)
    trial, _ = place.next_trial(budget)
    assert place.next_seed(budget) is None
    place.study().tell(trial, 0.5)
    assert [place.next_seed(budget) for _ in range(3)] == [0, 1, None]
    assert not place.may_go_on(budget)


def test_a_search_out_of_time_needs_some_trials_for_final_trainings(place, monkeypatch):
    monkeypatch.setattr(places, "FEWEST_TRIALS", 2)
    over = Budget(trials=9, seeds=1, search_until=0.0, until=math.inf)
    for value in (0.1, 0.2):
        assert place.next_seed(over) is None
        trial = place.study().ask()
        place.study().tell(trial, value)
    assert place.next_trial(over) is None
    assert place.next_seed(over) == 0


def test_a_peer_that_keeps_failing_is_given_up(place):
    budget = Budget(trials=9, seeds=1, search_until=math.inf, until=math.inf)
    for _ in range(places.MOST_FAILURES):
        assert place.next_trial(budget) is not None
        place.write("errors", {"error": "broken"})
    assert place.next_trial(budget) is None
    assert not place.may_go_on(budget)


def test_a_stopped_search_goes_on_with_what_it_left_running(place):
    budget = Budget(trials=1, seeds=2, search_until=math.inf, until=math.inf)
    place.next_trial(budget)
    reopen(place.out)
    trial, _ = place.next_trial(budget)
    place.study().tell(trial, 0.5)
    assert [place.next_seed(budget) for _ in range(2)] == [0, 1]
    place.write("seeds", {"seed": 1})
    reopen(place.out)
    assert [place.next_seed(budget) for _ in range(2)] == [0, None]


def borrow(place, values):
    """A place of another log of the same peer that is not searched."""
    folder = place.out.parent / "later"
    folder.mkdir()
    values = {"settings_of": "log", "is_searched_elsewhere": True, **values}
    (folder / "peers.json").write_text(json.dumps(values))
    return Place(folder, place.name, place.out)


def test_a_log_that_is_not_searched_waits_for_the_search_of_another_one(place):
    budget = Budget(trials=1, seeds=1, search_until=math.inf, until=math.inf)
    borrowing = borrow(place, {"settings": {}})
    assert borrowing.next_trial(budget) is None
    trial, drawn = place.next_trial(budget)
    assert borrowing.next_seed(budget) is None
    place.study().tell(trial, 0.5)
    chosen = borrowing.chosen()
    assert (chosen.settings, chosen.value, chosen.trials) == (drawn, 0.5, 1)
    assert [borrowing.next_seed(budget), place.next_seed(budget)] == [0, 0]


def test_nothing_waits_for_a_search_that_was_given_up(place):
    budget = Budget(trials=1, seeds=1, search_until=math.inf, until=math.inf)
    borrowing = borrow(place, {})
    assert borrowing.may_go_on(budget)
    for _ in range(places.MOST_FAILURES):
        place.write("errors", {"error": "broken"})
    assert not borrowing.may_go_on(budget)


def test_a_peer_that_was_not_searched_anywhere_is_left_out(place):
    budget = Budget(trials=1, seeds=1, search_until=math.inf, until=math.inf)
    borrowing = borrow(place, {"is_searched_elsewhere": False})
    assert borrowing.next_seed(budget) is None
    assert not borrowing.may_go_on(budget)


def test_a_misspelt_lender_is_named(tmp_path):
    with pytest.raises(ValueError, match="'movielens-100' lends its settings to mine"):
        pack(["mine:movielens-100"], tmp_path)


def test_a_log_that_is_not_searched_takes_settings_that_were_kept(place):
    budget = Budget(trials=1, seeds=1, search_until=math.inf, until=math.inf)
    borrowing = borrow(place, {"settings": {place.name: {"dropout": 0.3}}})
    assert borrowing.next_trial(budget) is None
    assert borrowing.chosen().settings == {"dropout": 0.3}
    assert borrowing.next_seed(budget) == 0


@pytest.mark.parametrize(
    ("text", "families"),
    [
        pytest.param("", [], id="none"),
        pytest.param("a", [""], id="one-for-all"),
        pytest.param("rectools=a,recbole=b", ["rectools", "recbole"], id="by-family"),
    ],
)
def test_folders_of_packages_are_named_by_family(text, families):
    assert list(read_sites(text)) == families
