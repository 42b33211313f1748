"""Memory that runs out and numbers that are none: what is at fault is said, nothing is replaced."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tasks.__main__ import main
from tasks.settings import load_settings, write_params
from tasks.training import loop
from tasks.training.memory import OutOfMemoryError, named_out_of_memory
from tests.reliability.conftest import outputs

TRAIN = ["train", "--model", "gru"]


def test_a_gpu_without_memory_names_the_setting_to_lower(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = outputs(workspace)

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0")

    monkeypatch.setattr("tasks.training.train_stage.train", full)

    assert main(TRAIN) == 2

    said = capsys.readouterr().err
    assert "CUDA out of memory. Tried to allocate 20.00 GiB." in said
    assert "train.shared.batch_size (now 8)" in said
    assert "train.shared.device=cpu" in said
    assert "Traceback" not in said
    assert outputs(workspace) == before


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
    ids=["python", "torch_cpu"],
)
def test_any_kind_of_memory_error_is_named(error: Exception) -> None:
    expected = pytest.raises(OutOfMemoryError, match=r"evaluate\.batch_size \(now 256\)")
    with expected, named_out_of_memory({"evaluate.batch_size": 256}):
        raise error


def test_other_errors_pass_by() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"), named_out_of_memory({}):
        raise RuntimeError("shapes differ")


@pytest.mark.parametrize("where", ["weights", "gradients"])
def test_nan_while_training_is_said_with_step_and_advice(
    where: str, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = outputs(workspace)
    rate = loop.set_learning_rate
    steps: list[int] = []

    def spoil(optimizer: torch.optim.Optimizer, value: float) -> None:
        rate(optimizer, value)
        steps.append(1)
        if len(steps) == 4:
            (first, *_) = optimizer.param_groups[0]["params"]
            if where == "weights":
                with torch.no_grad():
                    first.view(-1)[-1] = float("nan")
            else:
                first.register_hook(lambda gradient: gradient * float("nan"))

    monkeypatch.setattr(loop, "set_learning_rate", spoil)

    assert main(TRAIN) == 2

    said = capsys.readouterr().err
    assert "is not finite at step 4" in said
    assert "Lower the learning rate" in said
    assert "Traceback" not in said
    assert (next((workspace / ".assay" / "checkpoints").glob("gru_*")) / "failure.json").is_file()
    assert outputs(workspace) == before


def test_a_learning_rate_beyond_reason_is_survived(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = load_settings(workspace / "params.yaml", ["train.gru.learning_rate=1.0e+30"])
    write_params(settings, workspace / "params.yaml")

    assert main(TRAIN) == 2
    assert "not finite" in capsys.readouterr().err
