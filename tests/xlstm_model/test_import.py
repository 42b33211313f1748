"""The library stands on torch and safetensors alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROBE = """
import sys
import torch, safetensors.torch
before = set(sys.modules)
import xlstm_model
new = {name.split(".")[0] for name in set(sys.modules) - before}
foreign = new - set(sys.stdlib_module_names) - {"torch", "safetensors", "xlstm_model"}
print(sorted(foreign))
"""


def test_import_needs_torch_and_safetensors_alone(repository: Path):
    result = subprocess.run(
        [sys.executable, "-c", PROBE], cwd=repository, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
    assert result.stderr == ""


def test_every_public_name_is_documented_with_an_example_that_runs():
    import xlstm_model

    for name in xlstm_model.__all__:
        thing = getattr(xlstm_model, name)
        if callable(thing):
            assert ">>>" in (thing.__doc__ or ""), name
