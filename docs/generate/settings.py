"""``python -m docs.generate.settings``: writes docs/settings.md from the settings classes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from ruamel.yaml import YAML

from tasks.settings import Section, Settings

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = Path("docs") / "settings.md"
HEAD = """\
# Settings

Made from the code by `make docs`; a test compares. Every setting lives in `params.yaml`, is checked
before anything runs, and can be overridden for one run: `assay run --set train.xlstm.num_heads=2`.
An unknown name, a wrong type or a value out of range is refused with its path, and all problems are
listed at once.

**Read by** names the stages of `dvc.yaml` that a change makes run again. `train` stands for the
trainings of the models concerned; what depends on a stage follows it.
"""
NOT_TRACKED = "every stage that logs; nothing runs again"
COMMANDS = {"recommend": "`assay recommend`; nothing runs again"}
"""Who reads the sections no stage does."""
BOUNDS = (("ge", "≥ {}"), ("gt", "> {}"), ("le", "≤ {}"), ("lt", "< {}"))
SIZES = (("min_length", "length ≥ {}"), ("max_length", "length ≤ {}"))


def render(repository: Path = REPOSITORY) -> str:
    """Return the page.

    Args:
        repository: Where ``dvc.yaml`` is.
    """
    stages = _stages(repository / "dvc.yaml")
    parts = [HEAD]
    for path, section in _sections(Settings, ""):
        parts.append(f"\n## `{path}`\n\n{_one_line(section.__doc__ or '')}\n")
        rows = [
            _row(f"{path}.{name}", name, field, stages)
            for name, field in section.model_fields.items()
            if not _is_section(field.annotation)
        ]
        if rows:
            parts.append("\n| Setting | Type | Default | Allowed | Meaning | Read by |\n")
            parts.append("|---|---|---|---|---|---|\n")
            parts.extend(rows)
    return "".join(parts)


def _sections(section: type[Section], prefix: str) -> Iterator[tuple[str, type[Section]]]:
    for name, field in section.model_fields.items():
        if _is_section(field.annotation):
            path = f"{prefix}{name}"
            yield path, field.annotation
            yield from _sections(field.annotation, f"{path}.")


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _row(path: str, name: str, field: FieldInfo, stages: dict[str, list[str]]) -> str:
    kind, choices = _type(field.annotation)
    default = field.get_default(call_default_factory=True)
    cells = [
        f"`{name}`",
        kind,
        f"`{_yaml(default)}`",
        choices or _range(field),
        _one_line(field.description or ""),
        ", ".join(_readers(path, stages)) or COMMANDS.get(path.split(".")[0], NOT_TRACKED),
    ]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _type(annotation: Any) -> tuple[str, str]:
    """Name of a type, and what it allows where that is a list of choices.

    >>> _type(tuple[int, ...]), _type(Literal["a", "b"])
    (('list of int', ''), ('choice', '`a`, `b`'))
    """
    if get_origin(annotation) is Literal:
        return "choice", ", ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) is tuple:
        kind, choices = _type(get_args(annotation)[0])
        return f"list of {kind}", choices
    if get_origin(annotation) in (Union, UnionType):
        kinds = [_type(part) for part in get_args(annotation)]
        return " or ".join(kind for kind, _ in kinds), ", ".join(c for _, c in kinds if c)
    return {"str": "text", "bool": "yes/no"}.get(annotation.__name__, annotation.__name__), ""


def _range(field: FieldInfo) -> str:
    found = [
        text.format(value)
        for name, text in (*BOUNDS, *SIZES)
        for limit in field.metadata
        if (value := getattr(limit, name, None)) is not None
    ]
    patterns = [getattr(limit, "pattern", None) for limit in field.metadata]
    found += [f"matches `{pattern}`" for pattern in patterns if pattern]
    if field.annotation is bool:
        return "`true`, `false`"
    return ", ".join(found) or "any"


def _yaml(value: Any) -> str:
    """A value as one would write it in ``params.yaml``.

    >>> _yaml((0, 1)), _yaml(True), _yaml(""), _yaml(0.003)
    ('[0, 1]', 'true', "''", '0.003')
    """
    if isinstance(value, tuple):
        return "[" + ", ".join(_yaml(item) for item in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return "''" if value == "" else str(value)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _stages(path: Path) -> dict[str, list[str]]:
    """Stage -> the settings it depends on, templates made into patterns."""
    dag = YAML(typ="safe").load(path.read_text(encoding="utf-8"))["stages"]
    stages: dict[str, list[str]] = {}
    for name, stage in dag.items():
        own = [str(key) for key in stage.get("params", ())]
        used = re.findall(r"\$\{([\w.]+)\}", str(stage.get("matrix", "")))
        stages[name] = own + used
    return stages


def _readers(path: str, stages: dict[str, list[str]]) -> list[str]:
    return [
        name
        for name, keys in stages.items()
        if any(
            re.match(re.escape(key).replace(r"\$\{item\.model\}", r"\w+") + r"(\.|$)", path)
            for key in keys
        )
    ]


def main() -> None:
    """Write the page."""
    (REPOSITORY / PAGE).write_text(render(), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
