"""``python -m docs.generate.index``: writes the indexes of docs/ and of docs/decisions/.

Titles are the pages' own; a page no group names is listed at the end.
"""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = Path("docs") / "README.md"
DECISIONS = Path("docs") / "decisions" / "README.md"
GROUPS = {
    "Start": ("tutorial", "reading_the_report", "using_the_model", "mlflow_ui", "prefect_ui"),
    "The diagnosis": (
        *("reading_a_diagnosis", "diagnosis", "questions/README", "own_model"),
        *("public_packages", "fault_benchmark", "own_faults"),
    ),
    "Reference": ("settings", "xlstm_model", "extending", "scaling"),
    "What was measured": ("results", "speed", "reliability", "experiment_log"),
    "Why it is so": ("decisions/README",),
}
HEAD = "# Documentation\n\nMade by `make docs`. The [README](../README.md) is the way in.\n"
DECISIONS_HEAD = """\
# Decisions

Made by `make docs`. One page per decision that others may question: what was asked, what was
considered, what was chosen, and what was measured.

| No | Decision |
|---|---|
"""


def title_of(path: Path) -> str:
    """Return the first heading of a page.

    Raises:
        ValueError: it has none.
    """
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            return line[2:].strip()
    raise ValueError(f"{path} has no heading; start it with `# Title`.")


def render(repository: Path = REPOSITORY) -> str:
    """Return docs/README.md: every page of docs/ under a heading of its own kind."""
    folder = repository / "docs"
    named = [page for pages in GROUPS.values() for page in pages]
    others = sorted(path.stem for path in folder.glob("*.md") if path.stem not in named)
    groups = {**GROUPS, "More": tuple(page for page in others if page != "README")}
    parts = [HEAD]
    for heading, pages in groups.items():
        found = [page for page in pages if (folder / f"{page}.md").is_file()]
        if found:
            parts.append(f"\n## {heading}\n\n")
            parts += [f"- [{title_of(folder / f'{page}.md')}]({page}.md)\n" for page in found]
    return "".join(parts)


def render_decisions(repository: Path = REPOSITORY) -> str:
    """Return docs/decisions/README.md."""
    rows = []
    for path in sorted((repository / "docs" / "decisions").glob("[0-9]*.md")):
        number, _, title = title_of(path).partition(" ")
        rows.append(f"| [{number}]({path.name}) | {title} |\n")
    return DECISIONS_HEAD + "".join(rows)


def main() -> None:
    """Write both pages."""
    # The second links to the first, so it has to be there when that one looks for titles.
    (REPOSITORY / DECISIONS).write_text(render_decisions(), encoding="utf-8")
    (REPOSITORY / PAGE).write_text(render(), encoding="utf-8")
    print(f"{DECISIONS}\n{PAGE}")


if __name__ == "__main__":
    main()
