"""A logged model needs nothing of this project but the code that lies beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tasks.serving.workspace import Workspace
from tasks.tracking.run import copy_model
from tasks.tracking.served_code import copy_code
from tasks.training.models import MODELS
from tests.serving.conftest import project  # noqa: F401

ANSWER = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import tasks, xlstm_model
from tasks.serving.service import Service
found = {}
for folder in sorted(Path(sys.argv[2]).iterdir()):
    service = Service.from_bundle(folder)
    (best,) = service.answer([service.query(["i0003", "i0004"])], top_k=5)
    (known,) = service.answer([service.query([])], top_k=5)
    assert known.answered_by == "popularity"
    found[folder.name] = [best.items, best.scores]
print(json.dumps({"answers": found, "code": [tasks.__file__, xlstm_model.__file__],
                  "modules": sorted(m for m in sys.modules if m.startswith("tasks."))}))
"""


def test_every_model_answers_from_the_copied_code_as_in_the_workspace(
    project: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    code, bundles = tmp_path / "code", tmp_path / "bundles"
    copy_code(code)
    for spec in MODELS:
        folder = project / "artifacts" / "models" / spec.name / "seed_0"
        copy_model(folder, project, bundles / spec.name)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    finished = subprocess.run(
        [sys.executable, "-c", ANSWER, str(code), str(bundles)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert all(path.startswith(str(code)) for path in found["code"])
    assert "tasks.data" not in found["modules"]
    for spec in MODELS:
        service = Workspace.open(project, spec.name).service
        (best,) = service.answer([service.query(["i0003", "i0004"])], top_k=5)
        assert found["answers"][spec.name][0] == best.items
        for one, other in zip(found["answers"][spec.name][1], best.scores, strict=True):
            assert abs(one - other) < 1e-5


def test_only_python_files_are_copied(tmp_path: Path) -> None:
    folders = copy_code(tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [Path(folder).name for folder in folders] == ["tasks", "xlstm_model"]
    assert {path.suffix for path in files} == {".py"}
    assert sum(path.stat().st_size for path in files) < 1_000_000
