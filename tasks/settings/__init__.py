"""Every setting of a run: ``params.yaml`` read, checked, frozen. Its only reader."""

from tasks.settings.base import Section
from tasks.settings.data import DataSettings, SyntheticSettings
from tasks.settings.loader import (
    Settings,
    SettingsError,
    apply_overrides,
    load_settings,
    origin_of,
    read_params,
    settings_from_dict,
    write_params,
)
from tasks.settings.other import (
    DiagnoseSettings,
    EvaluateSettings,
    ExperimentSettings,
    ModelName,
    ReportSettings,
    TrackingSettings,
)
from tasks.settings.recommend import RecommendSettings
from tasks.settings.train import SharedTraining, TrainSettings, XLSTMSettings

__all__ = [
    "DataSettings",
    "DiagnoseSettings",
    "EvaluateSettings",
    "ExperimentSettings",
    "ModelName",
    "RecommendSettings",
    "ReportSettings",
    "Section",
    "Settings",
    "SettingsError",
    "SharedTraining",
    "SyntheticSettings",
    "TrackingSettings",
    "TrainSettings",
    "XLSTMSettings",
    "apply_overrides",
    "load_settings",
    "origin_of",
    "read_params",
    "settings_from_dict",
    "write_params",
]
