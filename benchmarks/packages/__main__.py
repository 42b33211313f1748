"""`python -m benchmarks.packages NAME`: diagnose a public model, repeat the hand checks: JSON."""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
import warnings
from typing import Any

from benchmarks.packages.case import Case
from benchmarks.packages.cases import CASES
from tasks.diagnostics.diagnose import diagnose


def examine(case: Case) -> dict[str, Any]:
    """Return version, findings and hand checks of one case."""
    start = time.process_time()
    diagnosis = diagnose(case.program, num_items=case.num_items)
    seconds = time.process_time() - start
    chosen = [f for f in diagnosis.findings if f.verdict in ("faulty", "suspect")]
    checks = []
    for one in case.verified:
        value = one.reproduce()
        checks.append({"value": value, "shown": bool(one.shown(value))})
    return {
        "name": case.name,
        "version": importlib.metadata.version(case.distribution),
        "counts": diagnosis.count(),
        "headline": diagnosis.headline,
        "stage": diagnosis.stage,
        "findings": [
            {"question": f.question, "number": f.number, "verdict": f.verdict, "text": f.sentence}
            for f in chosen
        ],
        "checks": checks,
        "cpu_seconds": seconds,
    }


def main() -> None:
    """Examine the case named on the command line."""
    warnings.simplefilter("ignore")
    known = {case.name: case for case in CASES}
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in known:
        raise SystemExit(f"{name!r} is no case; expected one of {', '.join(known)}.")
    print(json.dumps(examine(known[name])))


if __name__ == "__main__":
    main()
