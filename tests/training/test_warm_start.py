import csv

import pytest
import torch

from tasks.settings import Settings
from tasks.training import warm_start
from tasks.training.models import model_spec

SECTION = Settings().train.xlstm.model_dump() | {"embedding_dim": 8, "tied": False}


def build(num_items, seed, **changes):
    return model_spec("xlstm").build(num_items, SECTION | changes, max_seq_len=8, seed=seed)


def write_vocabulary(path, names):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["item_id", "raw_id"])
        writer.writerows(enumerate(names, start=1))
    return path


@pytest.fixture
def kept(tmp_path):
    last = build(3, seed=1)
    last.save(tmp_path / "last")
    vocabulary = write_vocabulary(tmp_path / "old.csv", ["a", "b", "c"])
    warm_start.keep(tmp_path / "last", vocabulary, tmp_path / "kept", "first")
    return last.model, tmp_path


def test_items_are_matched_by_their_raw_ids(kept):
    last, folder = kept
    now = build(4, seed=2)
    fresh = {name: tensor.clone() for name, tensor in now.model.state_dict().items()}
    vocabulary = write_vocabulary(folder / "new.csv", ["c", "d", "a", "b"])
    found = warm_start.begin(now.model, vocabulary, folder / "kept")
    assert (found.items_kept, found.items_new, found.tensors_new) == (3, 1, 0)
    old, new = last.state_dict(), now.model.state_dict()
    for name in warm_start.ITEM_TENSORS:
        assert torch.equal(new[name][[1, 3, 4]], old[name][[3, 1, 2]])
        assert torch.equal(new[name][2], fresh[name][2])
    assert torch.equal(new["repeats.weight"], old["repeats.weight"])


def test_tensors_of_another_shape_stay_fresh(kept):
    _, folder = kept
    now = build(3, seed=2, embedding_dim=16)
    before = now.model.state_dict()["item_embedding.weight"].clone()
    found = warm_start.begin(now.model, folder / "old.csv", folder / "kept")
    assert found.tensors_new > 0
    assert torch.equal(now.model.state_dict()["item_embedding.weight"], before)


def test_first_training_has_nothing_to_begin_from(tmp_path):
    vocabulary = write_vocabulary(tmp_path / "items.csv", ["a", "b", "c"])
    assert warm_start.begin(build(3, seed=0).model, vocabulary, tmp_path / "none") is None
    assert warm_start.identity(tmp_path / "none") == ""


@pytest.mark.parametrize("name", [warm_start.WEIGHTS, warm_start.VOCABULARY, warm_start.CHECKSUMS])
@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_damage_to_what_is_kept_is_named(kept, name, damage):
    _, folder = kept
    path = folder / "kept" / name
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content if damage == "flipped" else content[:-9])
    with pytest.raises(ValueError, match=r"can't be read.*warm_start to false"):
        warm_start.begin(build(3, seed=0).model, folder / "old.csv", folder / "kept")


def test_damaged_weights_are_named(kept):
    _, folder = kept
    (folder / "kept" / warm_start.WEIGHTS).write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"can't be read.*warm_start to false"):
        warm_start.begin(build(3, seed=0).model, folder / "old.csv", folder / "kept")
