"""Compile the kernels in place: `python -m xlstm_model.native.build`.

For a checkout that was not installed with a compiler at hand. Needs a C++17 compiler with GCC's
vector extension (GCC or Clang): the one named by the environment variable CXX, otherwise `c++`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

FLAGS = (
    "-std=c++17",
    "-O3",
    "-fPIC",
    "-shared",
    "-fno-exceptions",
    "-fno-rtti",
    "-fvisibility=hidden",
)
"""What the build of the wheel passes too; see `ext-modules` in pyproject.toml."""


def build(folder: Path) -> Path:
    """Compile the library into a folder.

    Args:
        folder: Where ``_kernels.so`` goes.

    Returns:
        Path of the library.

    Raises:
        FileNotFoundError: If there is no compiler.
        subprocess.CalledProcessError: If it fails.
    """
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler) is None:
        raise FileNotFoundError(
            f"CXX is {compiler!r}, which is no program here; expected a C++17 compiler such as g++ "
            "or clang++. Install one, or leave the kernels out: they only make things faster."
        )
    source = Path(__file__).parent / "source"
    units = [source / "library.cpp", *sorted((source / "variants").glob("*.cpp"))]
    target = folder / "_kernels.so"
    # Replaced in one step: a process that has the old library loaded keeps it.
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    subprocess.run([compiler, *FLAGS, "-o", str(partial), *map(str, units)], check=True)  # noqa: S603
    partial.replace(target)
    return target


def main() -> int:
    """Compile beside this file and say where."""
    try:
        print(f"Compiled {build(Path(__file__).parent)}")
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"the compiler failed with exit code {error.returncode}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
