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
HOST_PARTS = (
    "both",
    "one thread",
    "forward",
    "without launches",
    "one thread without launches",
    "replay",
)
LIMITS = [
    "[Decision 0040](decisions/0040-kernels-for-gpus.md) has what profiles of the kernels said.",
    "Eager calls that miss their aim wait for the host.",
]
HOST = [
    "Microseconds per call (`python -m benchmarks.gpu_host`). *One thread*: the backward pass on",
    "the thread that asks for it (`torch.autograd.set_multithreading_enabled(False)`), not on",
    "autograd's own. *Without launches*: everything but launching our kernels.",
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


def host_section(host: dict[str, Any]) -> list[str]:
    """Where the time of eager calls goes.

    >>> host_section({"device": "D", "mlstm (1, 2)": {"ours": {"both": 3.0}}})[-1]
    '| mlstm (1, 2) | ours | 3 |  |  |  |  |  |'
    """
    if not host:
        return []
    lines = ["", "## What eager calls wait for", "", *HOST, ""]
    lines += [f"| work | | {' | '.join(HOST_PARTS)} |", "|---|---|" + "---|" * len(HOST_PARTS)]
    for work, subjects in host.items():
        if not isinstance(subjects, dict):
            continue
        for name, row in subjects.items():
            cells = (f"{row[part]:.0f}" if part in row else "" for part in HOST_PARTS)
            lines.append(f"| {work} | {name} | {' | '.join(cells)} |")
    return lines


def render(results: dict[str, Any], host: dict[str, Any] | None = None) -> str:
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
    lines += ["", *LIMITS, *host_section(host or {})]
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
