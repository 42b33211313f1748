"""Settings of the experiment as a whole and of the stages after training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from tasks.settings.base import Section

ModelName = Literal[
    "popularity", "transitions", "logistic_regression", "gru", "lstm", "sasrec", "xlstm"
]


MAX_SEED = 2**32 - 1
"""Largest seed every library takes."""


class ExperimentSettings(Section):
    """Which models run, how often, and how many at a time."""

    name: str = Field("movielens-100k", min_length=1, max_length=100, pattern=r"^[\w.-]+$")
    """Name of the experiment in MLflow and in the report."""
    models: tuple[ModelName, ...] = Field(
        ("popularity", "transitions", "logistic_regression", "gru", "lstm", "sasrec", "xlstm"),
        min_length=1,
    )
    """Models to train and compare."""
    seeds: tuple[int, ...] = Field((0,), min_length=1, max_length=1000)
    """One training per model and seed."""
    parallel: int = Field(2, ge=1, le=256)
    """Trainings side by side."""

    @field_validator("models", "seeds")
    @classmethod
    def _unique(cls, values: tuple) -> tuple:
        if len(set(values)) != len(values):
            raise ValueError(f"{list(values)} names something twice; expected each once.")
        return values

    @field_validator("seeds")
    @classmethod
    def _non_negative(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if min(values) < 0:
            raise ValueError(f"{list(values)} holds a negative seed; expected 0 or more.")
        if max(values) > MAX_SEED:
            raise ValueError(
                f"{list(values)} holds a seed above {MAX_SEED}; expected at most that."
            )
        return values


class EvaluateSettings(Section):
    """Ranking metrics and comparisons."""

    cutoffs: tuple[int, ...] = Field((1, 5, 10, 20), min_length=1)
    """Values of K."""
    filter_seen: Literal["both", "no", "yes"] = "both"
    """Rank all items, only items new to the user, or report both (the first is the headline)."""
    batch_size: int = Field(256, ge=1, le=1_000_000)
    """Users scored at a time."""
    bootstrap_samples: int = Field(2000, ge=100, le=1_000_000)
    """Resamples behind each interval."""
    significance: float = Field(0.05, gt=0.0, lt=1.0)
    """Level of the paired tests after Holm's correction."""
    seed: int = Field(0, ge=0, le=MAX_SEED)
    """Seed of the resampling."""

    @field_validator("cutoffs")
    @classmethod
    def _positive(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if min(values) < 1 or 10 not in values or len(set(values)) != len(values):
            raise ValueError(
                f"{list(values)}: expected different values of 1 or more, 10 included."
            )
        return values


class DiagnoseSettings(Section):
    """What the diagnosis may spend and when it stops a run."""

    model: ModelName = "xlstm"
    """The model under test; the others serve as its baselines."""
    deep: bool = False
    """Also run the interventions that train models."""
    fail_on: Literal["never", "faulty", "suspect"] = "never"
    """Verdict at which `assay diagnose` exits with code 1."""
    on_symptom: Literal["intervene", "report"] = "intervene"
    """What follows when a training shows a symptom (no skill, a flat loss) and no cause is found,
    or what has to be seen with another seed too: the interventions that train models are run, as
    with ``deep``, or it is only reported."""
    before_training: Literal["stop", "warn", "off"] = "stop"
    """What a fault found by the exact checks before any training does: stop the run with exit code
    3, be reported, or nothing, as nothing is checked."""
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    """Seeds of the interventions."""


class RetrainSettings(Section):
    """What the nightly flow accepts as the same log, a day older; counts are of prepared data."""

    max_vanished_items: float = Field(0.05, ge=0.0, le=1.0)
    """Share of the items known so far that may be gone."""
    max_vanished_events: float = Field(0.05, ge=0.0, le=1.0)
    """Share of the events there were that may be gone; a log that is appended to loses none."""
    max_new_items: float = Field(0.5, ge=0.0, le=1.0)
    """Share of the vocabulary that may be new: more looks like another id scheme."""
    max_shift: float = Field(0.3, ge=0.0, le=1.0)
    """Total variation distance between the popularity of items then and now, of common items."""
    on_breach: Literal["refuse", "warn"] = "refuse"
    """End the run with exit code 2 before any training, or go on with a warning."""


class ReportSettings(Section):
    """The HTML report."""

    title: str = "Assay report"
    """Heading of the page."""
    num_sample_users: int = Field(3, ge=0, le=50)
    """Users whose histories and recommendations are shown."""


class TrackingSettings(Section):
    """MLflow."""

    enabled: bool = True
    """Log to MLflow (a local SQLite file unless MLFLOW_TRACKING_URI is set)."""
    register_champion: bool = True
    """Register the best model and move the alias `champion` when it is significantly better."""
