"""Reads ``params.yaml`` (YAML 1.2), applies overrides and reports every problem at once."""

from __future__ import annotations

import difflib
import io
import json
import os
import re
import tempfile
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tasks.settings.base import Section
from tasks.settings.data import DataSettings
from tasks.settings.other import (
    DiagnoseSettings,
    EvaluateSettings,
    ExperimentSettings,
    ReportSettings,
    RetrainSettings,
    TrackingSettings,
)
from tasks.settings.plain import SettingsError, check_plain
from tasks.settings.recommend import RecommendSettings
from tasks.settings.train import TrainSettings

MAX_PARAMS_BYTES = 1_000_000


class Settings(Section):
    """All settings of a run, one field per section of ``params.yaml``."""

    experiment: ExperimentSettings = ExperimentSettings()
    """Which models run, how often, and how many at a time."""
    data: DataSettings = DataSettings()
    """Where the log comes from and how it becomes sequences."""
    train: TrainSettings = TrainSettings()
    """Training of every model."""
    evaluate: EvaluateSettings = EvaluateSettings()
    """Ranking metrics and comparisons."""
    diagnose: DiagnoseSettings = DiagnoseSettings()
    """What the diagnosis may spend and when it stops a run."""
    report: ReportSettings = ReportSettings()
    """The HTML report."""
    tracking: TrackingSettings = TrackingSettings()
    """MLflow."""
    retrain: RetrainSettings = RetrainSettings()
    """What the nightly flow accepts of a log that grows."""
    recommend: RecommendSettings = RecommendSettings()
    """Recommending with a trained model."""


def read_params(path: Path) -> dict[str, Any]:
    """Read a YAML 1.2 file into plain dictionaries.

    Raises:
        SettingsError: the file is missing, too large, not YAML, or not a mapping.
    """
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            # A device may never end.
            raise SettingsError(f"{path} is not a regular file; expected a settings file.")
        if path.stat().st_size > MAX_PARAMS_BYTES:
            raise SettingsError(
                f"{path} holds {path.stat().st_size} bytes; expected at most {MAX_PARAMS_BYTES}. "
                "Is it really a settings file?"
            )
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise SettingsError(
            f"{path} does not exist. Run inside the project, or name a file with --params."
        ) from None
    except IsADirectoryError:
        raise SettingsError(f"{path} is a folder; expected a settings file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{path} can't be read as UTF-8 text: {error}. Save it as UTF-8."
        ) from None
    return _mapping(_parse(text, str(path)), str(path))


def _parse(text: str, origin: str) -> Any:
    try:
        value = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, RecursionError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split()).removesuffix(".")
        raise SettingsError(
            f"{origin} is not valid YAML 1.2: {reason}. Correct it there; text with special "
            "characters has to be in quotes, and tags that make objects are not read."
        ) from None
    check_plain(value, origin)
    return value


def _mapping(value: Any, origin: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise SettingsError(
            f"{origin} holds a {type(value).__name__}; expected sections such as 'data:'."
        )
    return value


def apply_overrides(params: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return ``params`` with ``section.key=value`` overrides applied; the input is not changed.

    Values are read as YAML, so numbers, booleans and lists work.

    >>> apply_overrides({"data": {"split": "temporal"}}, ["train.xlstm.num_heads=4"])
    {'data': {'split': 'temporal'}, 'train': {'xlstm': {'num_heads': 4}}}

    Raises:
        SettingsError: an override is not of the form ``section.key=value``.
    """
    merged = _copy(params)
    for override in overrides:
        path, separator, text = override.partition("=")
        keys = path.strip().split(".")
        if not separator or len(keys) < 2 or not all(keys):
            raise SettingsError(
                f"override {override!r} is not of the form section.key=value; expected for "
                "example train.xlstm.num_heads=4."
            )
        node = merged
        for key in keys[:-1]:
            child = node.setdefault(key, {})
            if not isinstance(child, dict):
                raise SettingsError(
                    f"override {override!r}: {key!r} is a value, not a section. "
                    "Remove what follows it."
                )
            node = child
        node[keys[-1]] = _parse(text, f"override {override!r}")
    return merged


def _copy(node: Any) -> Any:
    return {key: _copy(value) for key, value in node.items()} if isinstance(node, dict) else node


def settings_from_dict(params: dict[str, Any], origin: str = "settings") -> Settings:
    """Check ``params`` and freeze them.

    Raises:
        SettingsError: lists every unknown key, wrong type and value out of range.
    """
    try:
        # JSON mode: strict about types, yet lists become tuples and whole numbers become floats.
        text = json.dumps(params, default=str)
    except (ValueError, TypeError, RecursionError) as error:
        raise SettingsError(
            f"{origin} can't be used: {str(error).lower()}. Write plain sections and values."
        ) from None
    try:
        return Settings.model_validate_json(text, strict=True)
    except ValidationError as error:
        lines = [_describe(problem) for problem in _causes(error.errors())]
        head = f"{origin} has {len(lines)} problem{'s' if len(lines) > 1 else ''}:"
        raise SettingsError("\n".join([head, *(f"  - {line}" for line in lines)])) from None


def _causes(problems: list[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out lists that are too short only because of a problem with one of their entries."""

    def follows(problem: ErrorDetails) -> bool:
        depth = len(problem["loc"])
        inside = (p["loc"] for p in problems if len(p["loc"]) > depth)
        return problem["type"] == "too_short" and any(
            place[:depth] == problem["loc"] for place in inside
        )

    return [problem for problem in problems if not follows(problem)]


def _describe(problem: ErrorDetails) -> str:
    path = ".".join(str(part) for part in problem["loc"]) or "settings"
    if problem["type"] == "extra_forbidden":
        known = _known_keys(problem["loc"][:-1])
        close = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}."
        return f"{path} is not a setting; {hint}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{path}: {message}"
    hint = ""
    if problem["type"] == "literal_error" and isinstance(problem["input"], str):
        choices = re.findall(r"'([^']*)'", problem["ctx"]["expected"])
        close = difflib.get_close_matches(problem["input"], choices, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{path} is {problem['input']!r:.200}; {message[0].lower()}{message[1:]}.{hint}"


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    section: type[Section] = Settings
    for key in location:
        annotation = section.model_fields[str(key)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, Section)):
            return []
        section = annotation
    return sorted(section.model_fields)


def load_settings(path: Path, overrides: Iterable[str] = ()) -> Settings:
    """Read, override and check a settings file.

    Args:
        path: The YAML file; keys it leaves out take their defaults.
        overrides: ``section.key=value`` texts, applied in order.

    Raises:
        SettingsError: the file, an override or a value can't be used.
    """
    overrides = list(overrides)
    return settings_from_dict(
        apply_overrides(read_params(path), overrides), origin_of(path, overrides)
    )


def origin_of(path: Path, overrides: Collection[str]) -> str:
    """Return what settings were read from, for messages.

    >>> origin_of(Path("params.yaml"), ["train.xlstm.num_heads=2"])
    'params.yaml with what the command overrides'
    """
    return f"{path} with what the command overrides" if overrides else str(path)


def write_params(settings: Settings, path: Path) -> None:
    """Write all settings as YAML, atomically."""
    buffer = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = None
    yaml.width = 100
    yaml.dump(settings.model_dump(mode="json"), buffer)
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, suffix=".tmp", delete=False
    ) as file:
        file.write(buffer.getvalue())
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)
