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

AIMS = {
    "mlstm (512, 64, 64, 2)": (0.07, 0.2),
    "mlstm (256, 256, 128, 4)": (0.23, 0.30),
    "mlstm (32, 1024, 256, 4)": (0.26, 0.35),
    "slstm (256, 256, 128, 4)": (1.0, 1.1),
    "loss (51200, 3417, 128)": (0.7, None),
    "loss (25600, 26744, 128)": (2.0, None),
}
"""Largest milliseconds of a replay and of an eager call; None where nothing was asked."""
TIMES_FASTER = {"mlstm (8, 8192, 512, 4)": ("sdpa", 3.0)}
"""What is asked beside a peer: its name, and how many times faster."""
LIMITS = [
    "What limits those that miss their aim: eager mLSTM calls wait for the host, which prepares",
    "launches of up to forty arguments and an autograd function of ten inputs longer than the",
    "kernels run: the same work as a replay is 5 to 22 times faster, and PyTorch's attention loses",
    "1.5 to 3 times on the same host. [Decision 0040](decisions/0040-kernels-for-gpus.md) has what",
    "profiles of the kernels said. A later run, cut off before the loss and so not in the table,",
    "had the same replays and slower eager calls: .94, .97, 1.36 and 2.12 ms for the mLSTM, 1.09",
    "for the sLSTM, where attention took .20, .32, .40 and 3.82. What changed in launches after",
    "that was not measured.",
]


def met(title: str, rows: dict[str, Any]) -> str:
    """The aim of a work, and whether ours meets it.

    >>> met("slstm (256, 256, 128, 4)", {"ours": {"graph": 0.9, "eager": 1.2}})
    '≤ 1.0 reached / ≤ 1.1 missed'
    """
    ours = rows["ours"]
    if title in TIMES_FASTER:
        peer, times = TIMES_FASTER[title]
        is_met = rows[peer]["graph"] >= times * ours["graph"]
        return f"{times:g} times faster than {peer}, {'reached' if is_met else 'missed'}"
    aims = zip(AIMS.get(title, ()), ("graph", "eager"), strict=False)
    return " / ".join(
        f"≤ {aim} {'reached' if ours[key] <= aim else 'missed'}"
        for aim, key in aims
        if aim is not None
    )


def table(results: dict[str, Any], kind: str) -> list[str]:
    """Rows of one kind: ours and its peers, without the plans tried."""
    lines = [
        "| work | | graph, ms | eager, ms | aim | peak extra memory, MiB | ours is faster by |",
        "|---|---|---|---|---|---|---|",
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
                f"{row['eager']:.3f} | {met(title, rows) if name == 'ours' else ''} | "
                f"{row['mebibytes']:.0f} | "
                f"{'' if name == 'ours' else ratio} |"
            )
    return lines


def render(results: dict[str, Any]) -> str:
    """The page.

    >>> row = {"graph": 1.0, "eager": 2.0, "mebibytes": 3.0}
    >>> page = render({"device": "D", "torch": "1", "errors": {}, "loss (1, 2, 3)": {"ours": row}})
    >>> "| (1, 2, 3) | ours | 1.000 | 2.000 |  | 3 |  |" in page
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
    lines += ["", *LIMITS]
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
