from pathlib import Path

import pytest

from tasks.settings import load_settings

PRESETS = sorted((Path(__file__).parents[1] / "params").glob("*.yaml"))


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_preset_is_valid_and_runs_every_claimed_seed(path):
    settings = load_settings(path)
    assert settings.experiment.name == path.stem
    assert len(settings.experiment.seeds) >= 3
