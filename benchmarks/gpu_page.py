"""Writes docs/speed.md, whose part on GPUs is made here from what `benchmarks.gpu` measured.

python -m benchmarks.gpu_page
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

RESULTS = Path("benchmarks/results/gpu.json")
KINDS = {
    "mlstm": "mLSTM cell, (samples, positions, width, heads)",
    "slstm": "sLSTM cell, (samples, positions, width, heads)",
    "loss": "Cross-entropy over the catalogue, (positions, items, width)",
}


def table(results: dict[str, Any], kind: str) -> list[str]:
    """Rows of one kind: ours and its peers, without the plans tried."""
    lines = [
        "| work | | graph, ms | eager, ms | peak extra memory, MiB | ours is faster by |",
        "|---|---|---|---|---|---|",
    ]
    for title, rows in results.items():
        if not title.startswith(f"{kind} "):
            continue
        ours = rows["ours"]
        for name, row in rows.items():
            if name.startswith("(") or "graph" not in row:
                continue
            ratio = f"{row['graph'] / ours['graph']:.2f} / {row['eager'] / ours['eager']:.2f}"
            lines.append(
                f"| {title.removeprefix(kind).strip()} | {name} | {row['graph']:.3f} | "
                f"{row['eager']:.3f} | {row['mebibytes']:.0f} | "
                f"{'' if name == 'ours' else ratio} |"
            )
    return lines


def render(results: dict[str, Any]) -> str:
    """The page.

    >>> row = {"graph": 1.0, "eager": 2.0, "mebibytes": 3.0}
    >>> page = render({"device": "D", "torch": "1", "errors": {}, "loss (1, 2, 3)": {"ours": row}})
    >>> "| (1, 2, 3) | ours | 1.000 | 2.000 | 3 |  |" in page
    True
    """
    lines = [
        "# Speed on a GPU",
        "",
        f"{results['device']}, PyTorch {results['torch']}, bfloat16, both directions, medians.",
        "*Graph*: one replay of a CUDA graph, launch cost removed. *Eager*: one call among others",
        "that follow it, launches included. `python -m benchmarks.gpu` measures them into",
        "`benchmarks/results/gpu.json`.",
    ]
    for kind, title in KINDS.items():
        lines += ["", f"## {title}", "", *table(results, kind)]
    lines += ["", "## Relative errors against float64", ""]
    lines += ["| work | results, then gradients |", "|---|---|"]
    for work, errors in results["errors"].items():
        lines.append(f"| {work} | {' '.join(f'{x:.1e}' for x in errors)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_page", description=__doc__)
    parser.parse_args()
    from benchmarks import speed_page

    speed_page.write()


if __name__ == "__main__":
    main()
