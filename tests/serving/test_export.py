from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tasks.serving.export import export_program, save_export
from tasks.serving.workspace import Workspace
from tasks.settings import TrainSettings
from tasks.training.models import NeuralRecommender, load_recommender, model_spec

LOAD = """
import json, sys
import torch
program = torch.export.load(sys.argv[1] + "/scores.pt2").module()
given = json.load(open(sys.argv[1] + "/given.json"))
scores = [program(*map(torch.tensor, pair))[:, 1:].tolist() for pair in given]
ours = [m for m in sys.modules if m.split(".")[0] in ("tasks", "xlstm_model", "flows")]
print(json.dumps({"scores": scores, "ours": ours}))
"""


def histories(batch: int, length: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    item_ids = torch.randint(1, 31, (batch, length), generator=generator)
    lengths = torch.randint(0, length + 1, (batch,), generator=generator)
    return item_ids * (torch.arange(length) < lengths[:, None]), lengths


SHAPES = ((1, 1), (5, 3), (2, 16), (3, 40))


@pytest.mark.parametrize("name", ["gru", "lstm", "sasrec", "xlstm"])
def test_the_program_scores_as_the_model_for_any_batch_and_length(project: Path, name: str) -> None:
    model = load_recommender(project / "artifacts" / "models" / name / "seed_0")
    program = export_program(model).module()
    for number, (batch, length) in enumerate(SHAPES):
        item_ids, lengths = histories(batch, length, seed=number)
        found, expected = program(item_ids, lengths), model.score(item_ids, lengths)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert all(p.requires_grad for p in model.model.parameters()), "the model is left as it was"


def test_a_model_that_reads_times_is_given_them() -> None:
    settings = TrainSettings().xlstm.model_dump() | {"embedding_dim": 8, "time_gaps": True}
    model = model_spec("xlstm").build(30, settings, max_seq_len=6)
    assert isinstance(model, NeuralRecommender)
    with torch.no_grad():
        for parameter in model.model.parameters():
            parameter.add_(0.1)
    program = export_program(model).module()
    item_ids, lengths = histories(4, 9)
    times = torch.arange(36).reshape(4, 9) ** 2 * 10**7
    found, expected = program(item_ids, lengths, times), model.score(item_ids, lengths, times)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    other = program(item_ids, lengths, times * 50)
    assert not torch.allclose(found[:, 1:], other[:, 1:], atol=1e-4)


def test_the_files_need_torch_alone(project: Path, tmp_path: Path) -> None:
    service = Workspace.open(project, "gru").service
    path = save_export(service, tmp_path)
    assert path == tmp_path / "scores.pt2"
    assert json.loads((tmp_path / "vocabulary.json").read_text())[:3] == ["", "i0001", "i0002"]
    assert json.loads((tmp_path / "export.json").read_text())["max_len"] == 16
    given = [histories(*shape) for shape in SHAPES]
    (tmp_path / "given.json").write_text(json.dumps([[t.tolist() for t in g] for g in given]))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    finished = subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert found["ours"] == []
    for scores, (item_ids, lengths) in zip(found["scores"], given, strict=True):
        expected = service.model.score(item_ids, lengths)[:, 1:]
        torch.testing.assert_close(torch.tensor(scores), expected, atol=1e-5, rtol=1e-5)


def test_count_models_are_refused(project: Path) -> None:
    model = load_recommender(project / "artifacts" / "models" / "transitions" / "seed_0")
    with pytest.raises(ValueError, match="transitions has no network to export"):
        export_program(model)
