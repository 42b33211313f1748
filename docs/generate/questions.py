"""``python -m docs.generate.questions``: writes docs/questions/ from the fifty questions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tasks.diagnostics import questions
from tasks.diagnostics.question import Mode, Question
from tasks.diagnostics.questions import QUESTIONS
from tasks.faults import FAULTS, HELD_OUT
from tasks.faults.fault import Fault

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = Path("docs") / "questions"
INDEX = "README.md"
PARTS = ("Reads", "Rule", "Limits", "The same picture from elsewhere", "It can't tell")
MODES: dict[Mode, str] = {
    "exact": "before any training, in seconds",
    "after_training": "from a finished training",
    "deep": "by trainings of its own (`--deep`, or when a symptom has no known cause)",
}
GROUPS = {"G": "The experiment as a whole", "X": "The xLSTM"}
INDEX_HEAD = """\
# The fifty questions

Made from the code by `make docs`; a test compares. Each question is one file in
[`tasks/diagnostics/questions/`](../../tasks/diagnostics/questions); none is answered by reading a
setting.

| Answer | Meaning |
|---|---|
| healthy | measured, and within its limits |
| suspect | beyond a limit that healthy programs can pass too; look at it |
| faulty | an identity is broken, or an intervention or a corrected test shows a fault |
| undetermined | not measured: the answer names what is missing, or the command that settles it |
| not applicable | the program has no such part; the answer holds the proof |

`assay run` asks the exact questions before any training, and all that need no training of their
own after it. `assay diagnose` asks again, `--only G14` one question alone, `--deep` trains models
to find out. [What the diagnosis costs](../diagnosis.md).
"""


def render() -> dict[str, str]:
    """Return every page by its file name."""
    pages = {INDEX: _index()}
    return pages | {f"{question.id}.md": page(question) for question in QUESTIONS}


def page(question: Question) -> str:
    """Return the page of one question.

    Args:
        question: One of the fifty.
    """
    path = f"tasks/diagnostics/questions/{question.id}.py"
    parts = docstring_parts(getattr(questions, question.id).__doc__ or "")
    deep = " --deep" if question.mode == "deep" else ""
    text = [
        f"# {question.number}. {question.title}\n",
        f"`{question.id}` · answered {MODES[question.mode]} · can blame the stages "
        f"{', '.join(question.stages)} · [code](../../{path}) · [all questions]({INDEX})\n",
        f"Alone: `assay diagnose{deep} --only {question.number}`\n",
    ]
    text += [f"## {name}\n\n{parts[name]}\n" for name in PARTS]
    text[-3] += f"\n{_limits(question)}"
    text.append(f"## What turns it red\n\n{_faults(question)}")
    lines = list(dict.fromkeys(advice(REPOSITORY / path)))
    if lines:
        listed = "".join(f"- {line}\n" for line in lines)
        text.append(f"## What it advises, by what is broken\n\n{listed}")
    return "\n".join(text)


def docstring_parts(text: str) -> dict[str, str]:
    """Split a question's docstring at its headings.

    >>> docstring_parts("X0. Why?\\n\\nReads: a\\nb.\\n\\nRule: c.")
    {'Reads': 'A\\nb.', 'Rule': 'C.'}
    """
    names = "|".join(re.escape(name) for name in PARTS)
    found = re.split(rf"^({names}):\s*", text.strip(), flags=re.MULTILINE)
    return {
        name: body.strip()[:1].upper() + body.strip()[1:]
        for name, body in zip(found[1::2], found[2::2], strict=True)
    }


def advice(path: Path) -> list[str]:
    """Every advice a question's file can give; what is filled in at run time is shown as `…`.

    Args:
        path: The file.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: list[str] = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        named = [word.value for word in node.keywords if word.arg == "advice"]
        # `exact` and `cure_check` take their advice as what follows the stage.
        own = getattr(node.func, "id", "") in ("exact", "cure_check")
        for value in [*named, *(node.args[4:] if own else ())]:
            found += _texts(value)
    return found


def _texts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Tuple | ast.List):
        for item in node.elts:
            yield from _texts(item)
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value:
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        pieces = [str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values]
        yield "".join(pieces)


def _limits(question: Question) -> str:
    rows = "".join(
        f"| {name.replace('_', ' ')} | {limit.value:g} | {_cell(limit.source)} |\n"
        for name, limit in question.limits.items()
    )
    return f"| Limit | Value | Where it comes from |\n|---|---|---|\n{rows}"


def _faults(question: Question) -> str:
    known = [fault for fault in (*FAULTS, *HELD_OUT) if question.id in fault.expected]
    if not known:
        return "No planted fault names it as the question to find it.\n"
    rows = "".join(
        f"| `{fault.id}` | {_cell(fault.title)} | {_source(fault)} |\n" for fault in known
    )
    return (
        "Planted faults this question is expected to find (`assay faults run --only ID`):\n\n"
        f"| Fault | What it changes | Seen in |\n|---|---|---|\n{rows}"
    )


def _source(fault: Fault) -> str:
    return _cell(fault.source)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _index() -> str:
    parts = [INDEX_HEAD]
    for letter, title in GROUPS.items():
        rows = "".join(
            f"| {q.number} | [{_cell(q.title)}]({q.id}.md) | {MODES[q.mode].partition(' (')[0]} | "
            f"{', '.join(q.stages)} |\n"
            for q in QUESTIONS
            if q.number.startswith(letter)
        )
        parts.append(
            f"## {title}\n\n| No | Question | Answered | Can blame |\n|---|---|---|---|\n{rows}"
        )
    return "\n".join(parts)


def main() -> None:
    """Write the pages and delete those of questions that are no more."""
    folder = REPOSITORY / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    pages = render()
    for path in folder.glob("*.md"):
        if path.name not in pages:
            path.unlink()
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
    print(f"{FOLDER}: {len(pages)} pages")


if __name__ == "__main__":
    main()
