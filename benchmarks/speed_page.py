"""Writes docs/speed.md from the numbers in `benchmarks/results`.

python -m benchmarks.speed_page
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from typing import Any

from benchmarks import gpu_page, kept
from benchmarks.cells import KEPT_SUFFIX
from benchmarks.speed_rows import whole_rows

PAGE = kept.ROOT / "docs" / "speed.md"
TRAINING_TARGETS = {
    "training (64, 50, 64)": {"mlstm_stack": 1.5, "slstm_stack": 2.5},
    "training (64, 200, 64)": {"mlstm_stack": 1.5, "slstm_stack": 2.5},
    "training (8, 1024, 128)": {"mlstm_stack": 1.3, "slstm_stack": 3.0},
    "steps (1, 64)": {"mlstm_stack": 1.2, "slstm_stack": 1.2},
    "steps (8, 128)": {"mlstm_stack": 1.2, "slstm_stack": 1.2},
}
"""Largest time to reach, as a multiple of `torch.nn.LSTM`'s."""
MEMORY_TARGET = 2.0
PEERS = {
    "lstm": "nn.LSTM",
    "gru": "nn.GRU",
    "attention": "attention",
    "authors_{}": "xlstm 2.0.6",
}
KINDS = {"mlstm_stack": ("mLSTM", "mlstm"), "slstm_stack": ("sLSTM", "slstm")}


def processor_rows(cells: dict[str, Any]) -> Iterator[str]:
    """Rows of stacks and steps: ratio, aim, peers, and the largest shares of the time."""
    for key, targets in TRAINING_TARGETS.items():
        work, shape = key.split(" ", 1)
        for name, target in targets.items():
            title, kind = KINDS[name]
            what = (
                f"{title}, {'forward and backward' if work == 'training' else 'one step'} {shape}"
            )
            if key not in cells:
                yield f"| {what} | not measured | | ≤ {target} | | | |"
                continue
            rows = cells[key]
            ratio = rows[name]["ratio"]
            beside = cells.get(key + KEPT_SUFFIX, rows)
            peers = ", ".join(
                f"{label} {beside[peer.format(kind)]['ratio']}"
                for peer, label in PEERS.items()
                if peer != "lstm" and peer.format(kind) in beside
            )
            profile = f"profile {'' if work == 'training' else 'steps '}{shape}"
            shares = _shares(cells.get(profile, {}).get(name, {}))
            calm = cells.get(key + KEPT_SUFFIX, {}).get(name, {}).get("ratio")
            found = [_met(x, target) for x in (ratio, calm) if x is not None]
            met = " / ".join(dict.fromkeys(found))
            calm = "" if calm is None else calm
            yield f"| {what} | {ratio} | {calm} | ≤ {target} | {met} | {peers} | {shares} |"


def memory_rows(cells: dict[str, Any]) -> Iterator[str]:
    """Rows of peak memory and of the slope over the length."""
    for name, (title, _) in KINDS.items():
        row = cells.get("memory", {}).get(name)
        found = "not measured" if row is None else row["ratio"]
        met = "" if row is None else _met(row["ratio"], MEMORY_TARGET)
        what = f"{title}, peak extra memory (8, 1024, 128)"
        yield f"| {what} | {found} | | ≤ {MEMORY_TARGET} | {met} | | |"
    for name, (title, _) in KINDS.items():
        row = cells.get("growth", {}).get(name)
        found = "not measured" if row is None else f"slope {row['slope']}"
        yield f"| {title}, time from 512 to 4,096 positions | {found} | | slope 1 | | | |"
    for name, (title, _) in KINDS.items():
        row = cells.get("memory growth", {}).get(name)
        found = "not measured" if row is None else f"slope {row['slope']}"
        yield f"| {title}, memory from 1,024 to 8,192 positions | {found} | | slope 1 | | | |"


def faults_section(cells: dict[str, Any]) -> list[str]:
    """Why the rows have two ratios."""
    rows = {key: cells.get(key, {}).get("lstm", {}) for key in TRAINING_TARGETS}
    found = [
        f"{key.removeprefix('training ')}: {row['faults']:,} page faults a pass, "
        f"{row['milliseconds']:.0f} ms; {cells[key + KEPT_SUFFIX]['lstm']['milliseconds']:.0f} ms "
        "with memory kept"
        for key, row in rows.items()
        if "faults" in row and key + KEPT_SUFFIX in cells
    ]
    if not found:
        return []
    return [
        *("", "### Two ratios", ""),
        "*As it is*: glibc's defaults, with our kernels loaded. *Memory kept*: the same with",
        "`MALLOC_TRIM_THRESHOLD_` and `MALLOC_MMAP_THRESHOLD_` at 10⁹ (`--only training",
        "--allocator keeping`), so that glibc gives nothing back to the system. It does so by",
        "default with blocks of over 32 MiB, and the workspace of `nn.LSTM` is one where sequences",
        "are long: it comes as fresh pages at every pass, unless something else in the process has",
        "left enough room. Our passes need no such block, and take as long either way. Of",
        "`nn.LSTM`:",
        "",
        *(f"- {line}." for line in found),
    ]


def limits_section(kernels: dict[str, Any]) -> list[str]:
    """What limits the stacks: arithmetic, and where the time of the kernels goes."""
    if not kernels:
        return []
    lines = [
        *("", "### What limits them", ""),
        "`_Pass` and `_PassBackward` above are compiled passes. Inside them, by samples of Linux's",
        "`perf` (`python -m benchmarks.kernel_shares`); multiply-adds are those of a block (the",
        "mLSTM in chunks of 64) as a multiple of those of an LSTM layer.",
    ]
    for name, rows in kernels.items():
        parts = [
            part
            for part in next(iter(rows.values()))["shares"]
            if any(row["shares"][part] >= 0.005 for row in rows.values())
        ]
        lines += ["", f"| {KINDS[name][0]}, (B, S, D) | multiply-adds | {' | '.join(parts)} |"]
        lines.append("|---|---|" + "---|" * len(parts))
        for shape, row in rows.items():
            shares = " | ".join(f"{row['shares'][part]:.0%}" for part in parts)
            lines.append(f"| {shape} | {row['products']} | {shares} |")
    return [
        *lines,
        "",
        "With memory kept the mLSTM's aims of 1.5 and 1.3 stand against 1.47 and 1.42 times the",
        "arithmetic: its products alone, at the rate of a whole LSTM pass, take what the aims",
        "allow. Other chunks do not help (`--only chunks --allocator keeping`): what shorter ones",
        "save in products within chunks they spend on those with the states.",
        "A step of two mLSTM blocks at (8, 128) reads 2 MiB of state and writes as much. Loading",
        "the kernels has glibc keep that memory; each new state came as fresh pages before, which",
        "took longer than the step (.94 ms for .17).",
    ]


def growth_section(growth: dict[str, Any]) -> list[str]:
    """Slopes and the chart."""
    if not growth:
        return []
    lines = [
        *("", "## Growth", "", "![Processor seconds by size](images/growth.svg)", ""),
        "Slopes of the logarithms (1 is linear; below 1 a fixed cost still counts; in brackets",
        "between the two largest sizes alone), from",
        "`python -m benchmarks.growth`; seconds in `benchmarks/results/speed/growth.json`.",
        *("", "| What grows | prepare | training epoch | full-ranking evaluation |"),
        "|---|---|---|---|",
    ]
    for name, row in growth["slopes"].items():
        sizes = list(growth["seconds"][name])
        shown = [f"{row[part]} ({_last_slope(growth['seconds'][name], part)})" for part in row]
        lines.append(f"| {name}, {sizes[0]} to {sizes[-1]} | {' | '.join(shown)} |")
    return lines


def render() -> str:
    """The page."""
    cells = kept.read("cells")
    lines = [
        "# Speed",
        "",
        "Made by `python -m benchmarks.speed_page` from `benchmarks/results/speed/*.json` and",
        "`benchmarks/results/gpu.json`. Ratios are medians of rounds in which all subjects take",
        "turns, in processor time, one thread. Stacks, steps, growth, serving, ranking and the",
        "recorder were measured on an idle machine, the rest on a busy one; the trainings beside",
        "RecBole before the blocks' kernels of today, which take 60 to 75 % of the time of those.",
        "",
        "## Stacks of two blocks on a CPU, as multiples of `torch.nn.LSTM`",
        "",
        "(B, S, D) or (B, D), float32; `python -m benchmarks.cells --json FILE` with `--memory",
        "--profile`, `--only training --allocator keeping --peers DIR`, and `--only steps --peers",
        "DIR`, FILE being `benchmarks/results/speed/cells.json`. Peers of whole sequences are",
        "those with memory kept. The last column says where the time goes: operators for whole",
        "sequences; for steps PyTorch's operators, compiled kernels, Python around them.",
        "",
        "| Work | as it is | memory kept | aim | | peers | largest shares of time |",
        "|---|---|---|---|---|---|---|",
        *processor_rows(cells),
        *memory_rows(cells),
        *faults_section(cells),
        "",
        "`python -m benchmarks.guard` measures the key rows again and fails where a ratio is more",
        "than 1.6 times the kept one. The same ratio differs by up to 1.4 times between runs on a",
        "busy machine. Peak memory and the time over lengths: `--only memory`, `--only growth`.",
        *limits_section(kept.read("kernel_shares")),
        *growth_section(kept.read("growth")),
        "",
        "## The whole thing",
        "",
        "| Work | measured | aim | command |",
        "|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in whole_rows()),
        "",
        "What takes the time of a training step on a GPU:",
        "[decision 0040](decisions/0040-kernels-for-gpus.md).",
    ]
    gpu = kept.ROOT / gpu_page.RESULTS
    if gpu.exists():
        page = gpu_page.render(json.loads(gpu.read_text()), kept.read("gpu_host"))
        lines += ["", page.replace("\n## ", "\n### ").replace("# Speed on", "## Cells on", 1)]
    return "\n".join(lines).rstrip("\n") + "\n"


def _last_slope(rows: dict[str, dict[str, float]], part: str) -> float:
    """Slope between the two largest sizes.

    >>> _last_slope({"1": {"a": 9.0}, "2": {"a": 1.0}, "4": {"a": 2.0}}, "a")
    1.0
    """
    (before, low), (after, high) = list(rows.items())[-2:]
    return round(math.log(high[part] / low[part]) / math.log(int(after) / int(before)), 2)


def _met(ratio: float, target: float) -> str:
    return "reached" if ratio <= target else "missed"


def _shares(row: dict[str, float]) -> str:
    parts = {
        name: share for name, share in row.items() if name not in ("other", "operators_per_step")
    }
    largest = sorted(parts.items(), key=lambda part: -part[1])[:3]
    return ", ".join(f"`{name}` {share:.0%}" for name, share in largest)


def write() -> None:
    """Write the page."""
    PAGE.write_text(render())


def main() -> None:
    """Write the page."""
    argparse.ArgumentParser(
        prog="python -m benchmarks.speed_page", description=__doc__
    ).parse_args()
    write()


if __name__ == "__main__":
    main()
