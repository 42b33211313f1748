"""Diagnose public sequence models and write what was found, and what of it is true.

`python -m benchmarks.public_packages --packages DIR` looks for each package in `DIR/<name>`, put
there by `pip install --no-deps --target DIR/<name> <name>` (and whatever else it imports).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.packages.case import Case
from benchmarks.packages.cases import CASES

PAGE = Path("docs/public_packages.md")
ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = 900

HEAD = """# What the diagnosis finds in public packages

Sequence models of public packages, built as their documentation says (`benchmarks/packages/`) and
diagnosed in exact mode, before any training, on a made-up log of 100 items:
`assay diagnose --model benchmarks.packages.xlstm_packages:authors`, for one. Every red or amber
finding was looked into by hand; the number in the last column shows its reason again without the
diagnosis (`benchmarks/packages/by_hand.py`). Findings that follow from another one of the same
model stand in the same row. What is known of a package and was **not found** stands there too. A
model without a finding is not a proven one: it kept every identity that was tried.

Written by `python -m benchmarks.public_packages --packages DIR`.

"""


def main() -> None:
    """Examine every case that is installed, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packages", type=Path, required=True, help="one folder per package")
    parser.add_argument("--only", nargs="*", default=[], help="names of cases")
    parser.add_argument("--results", type=Path, help="JSON to read results from and keep them in")
    parser.add_argument("--output", type=Path, default=PAGE)
    chosen = parser.parse_args()
    kept = {}
    if chosen.results and chosen.results.is_file():
        kept = json.loads(chosen.results.read_text(encoding="utf-8"))
    for case in CASES:
        if case.name in chosen.only or (not chosen.only and _lacks(kept.get(case.name), case)):
            kept[case.name] = examine(case, chosen.packages)
            print(case.name, kept[case.name].get("headline", kept[case.name].get("failed")))
            if chosen.results:
                chosen.results.write_text(json.dumps(kept, indent=1), encoding="utf-8")
    chosen.output.write_text(page(kept), encoding="utf-8")


def examine(case: Case, packages: Path) -> dict[str, Any]:
    """Run one case in a process of its own, where its package comes first."""
    folder = packages / case.distribution
    path = os.pathsep.join([str(folder.resolve()), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.packages", case.name],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    if done.returncode != 0:
        return {"failed": done.stderr.strip().splitlines()[-1:] or ["no message"]}
    return json.loads(done.stdout.splitlines()[-1])


def page(results: dict[str, dict[str, Any]]) -> str:
    """Return the page in Markdown."""
    head = ("Package", "Model", "Answers", "Red and amber", "By hand", "Shown by")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for case in CASES:
        result = results.get(case.name)
        if _lacks(result, case):
            why = f"not run: {result['failed'][0]}" if result and "failed" in result else "not run"
            lines.append(_line(_package(case, ""), _built(case), why, "", "", ""))
            continue
        lines += _rows(case, result)
    return HEAD + "\n".join(lines) + "\n"


def _lacks(result: dict[str, Any] | None, case: Case) -> bool:
    """Whether there is no result, or one from before the hand checks of today."""
    if result is None or "failed" in result:
        return True
    return len(result["checks"]) != len(case.verified)


def _rows(case: Case, result: dict[str, Any]) -> list[str]:
    counts = result["counts"]
    answers = ", ".join(f"{counts[v]} {v.replace('_', ' ')}" for v in counts if counts[v])
    first = (_package(case, result["version"]), _built(case), answers)
    if not result["findings"] and not case.verified:
        return [_line(*first, "none", "", "")]
    rows = []
    left = list(result["findings"])
    for one, check in zip(case.verified, result["checks"], strict=True):
        found = [f for name in one.questions for f in left if f["question"] == name]
        left = [f for f in left if f not in found]
        shown = f"{one.unit}: {check['value']:.3g}" + ("" if check["shown"] else " (NOT SHOWN)")
        truth = f"{one.truth}: {one.claim}"
        rows.append(_line(*first, _texts(found), truth, shown))
        first = ("", "", "")
    if left:
        rows.append(_line(*first, _texts(left), "not looked into", ""))
    return rows


def _texts(findings: list[dict[str, Any]]) -> str:
    """The first finding in words, the others by number."""
    if not findings:
        return "**not found**"
    first = findings[0]
    marks = [f["number"] + (" (amber)" if f["verdict"] == "suspect" else "") for f in findings]
    return f"{marks[0]}: {first['text']}" + (f" Also {', '.join(marks[1:])}." if marks[1:] else "")


def _package(case: Case, version: str) -> str:
    return f"{case.distribution} {version} ({case.licence})"


def _built(case: Case) -> str:
    return f"`{case.name}`: {case.source}"


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


if __name__ == "__main__":
    main()
