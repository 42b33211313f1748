"""A thread beside a training: measures the machine and delivers what was logged so far."""

from __future__ import annotations

import logging
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from tasks.tracking import delivery
from tasks.tracking.run import RunLog

SAMPLE_SECONDS = 10.0
DELIVER_SECONDS = 60.0
MEGABYTE = 1_000_000


class Companion:
    """Samples every ten seconds and delivers every minute, so a long training can be watched."""

    def __init__(self, log: RunLog, workspace: Path) -> None:
        self._log = log
        self._workspace = workspace
        self._process = psutil.Process()
        self._process.cpu_percent()
        _, self._count = log.progress("system")
        self._started = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="assay-tracking", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Take a last sample and wait for a delivery under way."""
        self._stop.set()
        self._thread.join()
        self._sample()

    def _work(self) -> None:
        delivered = time.monotonic()
        while not self._stop.wait(SAMPLE_SECONDS):
            if not self._is_early():
                self._sample()
            if time.monotonic() - delivered >= DELIVER_SECONDS:
                self._deliver()
                delivered = time.monotonic()

    def _is_early(self) -> bool:
        """Within the first minute, before an epoch: a run shall not be headed by the machine."""
        elapsed = time.monotonic() - self._started
        return elapsed < DELIVER_SECONDS and self._log.progress("epoch")[0] < 0

    def _sample(self) -> None:
        values = machine_use(self._process)
        self._log.add_metrics(values, self._count, "system", self._count + 1)
        self._count += 1

    def _deliver(self) -> None:
        try:
            delivery.deliver(self._workspace, wait_seconds=0.0)
        except Exception:
            # Nothing that goes wrong with logging may end a training.
            logging.getLogger("assay.tracking").exception("delivery to MLflow failed")


def machine_use(process: psutil.Process) -> dict[str, float]:
    """CPU in percent of one core, memory in MB; of the GPU where torch uses one."""
    values = {
        "system/process_cpu_percent": process.cpu_percent(),
        "system/process_memory_megabytes": process.memory_info().rss / MEGABYTE,
        "system/cpu_utilization_percentage": psutil.cpu_percent(),
        "system/system_memory_usage_percentage": psutil.virtual_memory().percent,
    }
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            values[f"system/gpu_{index}_memory_usage_megabytes"] = (total - free) / MEGABYTE
    return values
