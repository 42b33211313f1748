"""Prints a digest of the ids a program gives its items: `python -m` KIND ID MODEL DATA SEED."""

from __future__ import annotations

import hashlib
import sys

from tasks.fault_benchmark.plan import Catalogue, Job
from tasks.fault_benchmark.runner import subject_of


def main(arguments: list[str]) -> None:
    """Print the digest."""
    kind, id, model, data, seed = arguments
    subject = subject_of(Job(kind, id, model, data, int(seed)), Catalogue.load())
    labels = "\n".join(map(str, subject.prepared().item_labels))
    print(hashlib.sha256(labels.encode()).hexdigest())


if __name__ == "__main__":
    main(sys.argv[1:])
