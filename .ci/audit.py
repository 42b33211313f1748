"""Runs pip-audit on a file of pins and says plainly what it could look up.

    python .ci/audit.py constraints.txt

Exit codes: 0 nothing known, 1 a weakness is known, 3 the database can't be reached from here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def main(path: str) -> int:
    """Audit the pins of ``path``, print what was found and return the exit code."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", path, "--no-deps"]
    command += ["--disable-pip", "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return unreachable(done.stderr.strip().splitlines()[-1:] or ["no answer"])
    return judge(packages)


def judge(packages: list[dict[str, Any]]) -> int:
    """Print what pip-audit found and return the exit code.

    >>> judge([{"name": "a", "version": "1", "vulns": []}])
    1 packages looked up, 0 with known weaknesses.
    0
    >>> judge([{"name": "a", "skip_reason": "not found"}])
    The database of known weaknesses can't be reached from here (not found): nothing was audited.
    3
    """
    audited = [each for each in packages if "skip_reason" not in each]
    if not audited:
        return unreachable([each["skip_reason"] for each in packages[:1]])
    weak = [each for each in audited if each["vulns"]]
    for each in weak:
        ids = ", ".join(vuln["id"] for vuln in each["vulns"])
        fixed = sorted({version for vuln in each["vulns"] for version in vuln["fix_versions"]})
        print(f"{each['name']} {each['version']}: {ids}; fixed in {', '.join(fixed) or 'none yet'}")
    for each in packages:
        if "skip_reason" in each:
            print(f"{each['name']} was not looked up: {each['skip_reason']}")
    print(f"{len(audited)} packages looked up, {len(weak)} with known weaknesses.")
    return 1 if weak else 0


def unreachable(reasons: list[str]) -> int:
    """Say that nothing was looked up."""
    why = "".join(reasons)[:200]
    print(
        f"The database of known weaknesses can't be reached from here ({why}): nothing was audited."
    )
    return 3


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
