"""Experiment tracking with MLflow. The only room that imports it, and only when delivering.

Stages write what they log to journals on disk, which takes microseconds; deliveries carry them
to MLflow, now or, when it is away, with the next stage that logs.
"""

from tasks.tracking.address import store_uri
from tasks.tracking.champion import Champion, read_champion
from tasks.tracking.delivery import Outcome, deliver
from tasks.tracking.experiment import begin_experiment, end_experiment, model_run
from tasks.tracking.exports import log_export
from tasks.tracking.results import log_evaluation, log_report
from tasks.tracking.run import ModelRun, SilentRun
from tasks.tracking.verdicts import log_refusal

__all__ = [
    "Champion",
    "ModelRun",
    "Outcome",
    "SilentRun",
    "begin_experiment",
    "deliver",
    "end_experiment",
    "log_evaluation",
    "log_export",
    "log_refusal",
    "log_report",
    "model_run",
    "read_champion",
    "store_uri",
]
