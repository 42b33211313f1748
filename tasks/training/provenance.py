"""What a training ran on and what it used, for its record."""

from __future__ import annotations

import platform
import sys

import numpy as np
import safetensors
import torch


def versions() -> dict[str, str]:
    """Versions that decide the bits of a result.

    >>> sorted(versions())
    ['numpy', 'python', 'safetensors', 'torch']
    """
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "safetensors": safetensors.__version__,
    }


def peak_memory_mb() -> float:
    """Largest memory the process has held so far, in MiB; 0 where the system does not say."""
    try:
        import resource
    except ImportError:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def peak_gpu_memory_mb() -> float:
    """Largest memory torch has held on the current GPU so far, in MiB; 0 without one."""
    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
