"""All of training but its stage runs where only numpy, scipy, scikit-learn and torch are."""

from __future__ import annotations

import subprocess
import sys

MISSING = (
    "polars",
    "pandas",
    "pandera",
    "pyarrow",
    "pydantic",
    "ruamel",
    "mlflow",
    "prefect",
    "dvc",
)

SCRIPT = """
import sys
from importlib import import_module
from pathlib import Path

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {missing!r}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
found = 0
for room in ("training", "baselines"):
    for path in sorted(Path("tasks", room).glob("*.py")):
        if not path.name.endswith("_stage.py"):
            import_module(f"tasks.{{room}}.{{path.stem}}".removesuffix(".__init__"))
            found += 1
print(found)
"""


def test_training_needs_no_library_of_the_other_stages(repository):
    script = SCRIPT.format(missing=MISSING)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=repository, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


def test_the_stage_is_noticed_to_need_more(repository):
    script = SCRIPT.format(missing=MISSING).replace("_stage.py", "_other.py")
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=repository, capture_output=True, text=True
    )
    assert "ModuleNotFoundError" in done.stderr
