"""Pages made from the program are those it would make now."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

from docs.generate import notices, settings
from tasks.settings import Section, Settings


def test_the_settings_reference_is_current(repository: Path) -> None:
    committed = (repository / settings.PAGE).read_text(encoding="utf-8")
    made = settings.render(repository)
    changed = "\n".join(difflib.unified_diff(committed.split("\n"), made.split("\n"), lineterm=""))
    assert not changed, f"{settings.PAGE} is out of date; run `make docs` and commit it.\n{changed}"


def _fields(section: type[Section], prefix: str = "") -> list[tuple[str, str]]:
    found = []
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            found += _fields(field.annotation, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", field.description or ""))
    return found


@pytest.mark.parametrize(("path", "meaning"), _fields(Settings), ids=lambda value: str(value)[:40])
def test_every_setting_has_a_meaning(path: str, meaning: str) -> None:
    assert len(meaning) > 10, f"{path} has no docstring"


def test_rows_state_type_default_range_and_reader(repository: Path) -> None:
    rows = {line.split("|")[1].strip(): line for line in settings.render(repository).splitlines()
            if line.startswith("| `")}  # fmt: skip
    assert "| float | `0.8` | > 0.0, < 1.0 |" in rows["`val_quantile`"]
    assert "| choice | `cross_entropy` | `cross_entropy`, `sampled_softmax`" in rows["`loss`"]
    assert rows["`num_sample_users`"].endswith("| diagnose, report |")
    assert rows["`register_champion`"].endswith(f"| {settings.NOT_TRACKED} |")
    assert "train" in rows["`pattern`"].rpartition("Blocks in order")[2]


def test_every_installed_dependency_is_in_the_notices(repository: Path) -> None:
    listed = (repository / notices.PAGE).read_text(encoding="utf-8").splitlines()
    missing = [package.row for package in notices.packages() if package.row not in listed]
    assert not missing, f"{notices.PAGE} is out of date; run `make docs`. Missing: {missing}"


def test_every_licence_is_compatible() -> None:
    assert [package for package in notices.packages() if not package.is_compatible] == []


@pytest.mark.parametrize(
    ("licence", "is_compatible"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("none stated", False),
        ("AGPL-3.0-only OR Apache-2.0", True),
        ("MPL-2.0 AND (Apache-2.0 OR GPL-3.0-only)", True),
        ("MIT AND GPL-3.0-only", False),
        ("Apache-2.0 WITH LLVM-exception", True),
    ],
)
def test_expressions_of_licences(licence: str, is_compatible: bool) -> None:
    assert notices.Package("x", licence, "direct").is_compatible is is_compatible
