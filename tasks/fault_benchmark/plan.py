"""What is run: every program, on every log, with every seed, and where user faults come from."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tasks.fault_benchmark.clean import MODELS
from tasks.fault_benchmark.logs import EDITS, LOG_SETTINGS
from tasks.faults import FAULTS, HELD_OUT, VARIANTS
from tasks.faults.fault import Fault, HealthyVariant

Kind = Literal["listed", "held_out", "own", "healthy", "clean"]
"""Listed, held-out or a user's own fault; a healthy variant; the program a fault is planted in."""

DEVELOPMENT_SEEDS = (0, 1, 2)
"""Seeds questions and limits may be improved on."""

SCORING_SEEDS = (100, 101, 102)
"""Seeds that are scored and never improved on."""

FAULT_MODELS = ("gru", "xlstm")
"""Models a fault is planted in unless it names its own: the plainest one and the default one."""

HEALTHY_MODELS = tuple(MODELS)


@dataclass(frozen=True)
class Job:
    """One program to diagnose.

    Attributes:
        kind: What it is.
        id: Of the fault or variant; of a clean program, a digest of its settings.
        model: A key of `tasks.fault_benchmark.clean.MODELS`.
        data: `synthetic`, or the path of a log.
        seed: Of log, weights and probe.
        settings: Of a clean program; faults and variants bring their own.
        effort: Mode of diagnosis; "" leaves it to the label, or is `exact` for healthy programs.
    """

    kind: Kind
    id: str
    model: str
    data: str
    seed: int
    settings: tuple[tuple[str, Any], ...] = ()
    effort: str = ""

    @property
    def key(self) -> tuple[str, str, str, str, int, str]:
        """Identity of the job; its results are kept under it."""
        data = Path(self.data).name.split(".")[0]
        return (self.kind, self.id, self.model, data, self.seed, self.effort)


@dataclass(frozen=True)
class Catalogue:
    """Faults and variants to choose from."""

    faults: Mapping[str, tuple[Kind, Fault]]
    variants: Mapping[str, HealthyVariant]

    @classmethod
    def load(cls, own: Path | None = None) -> Catalogue:
        """Return the catalogue of the repository, or that of a user's file alone.

        Args:
            own: A Python file that defines `FAULTS`, `VARIANTS` or both.

        Raises:
            ValueError: The file defines neither, or two entries share an id.
        """
        if own is None:
            return cls.of([("listed", FAULTS), ("held_out", HELD_OUT)], VARIANTS)
        module = _import_file(own)
        faults, variants = getattr(module, "FAULTS", ()), getattr(module, "VARIANTS", ())
        if not faults and not variants:
            raise ValueError(
                f"{own} defines neither FAULTS nor VARIANTS; expected a tuple of `Fault` or "
                "`HealthyVariant` from tasks.faults.fault."
            )
        return cls.of([("own", faults)], variants)

    @classmethod
    def of(
        cls,
        groups: Iterable[tuple[Kind, Sequence[Fault]]],
        variants: Sequence[HealthyVariant],
    ) -> Catalogue:
        """Return a catalogue of groups of faults and of variants."""
        entries = [(kind, fault) for kind, faults in groups for fault in faults]
        ids = [fault.id for _, fault in entries] + [variant.id for variant in variants]
        if twice := sorted({id for id in ids if ids.count(id) > 1}):
            raise ValueError(f"ids {twice} are used more than once; expected each once.")
        return cls({f.id: (kind, f) for kind, f in entries}, {v.id: v for v in variants})


def _import_file(path: Path) -> Any:
    if not path.is_file():
        raise ValueError(f"{path} is no file; give a Python file that defines FAULTS.")
    spec = importlib.util.spec_from_file_location(f"own_faults_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fault_jobs(
    catalogue: Catalogue,
    *,
    data: Sequence[str] = ("synthetic",),
    seeds: Sequence[int] = DEVELOPMENT_SEEDS,
    models: Sequence[str] = FAULT_MODELS,
    only: Sequence[str] = (),
    kinds: Sequence[Kind] = ("listed", "held_out", "own"),
) -> list[Job]:
    """Return a job per fault, model, log and seed, seeds outermost.

    Args:
        catalogue: What there is.
        data: Logs; a fault that needs settings only synthetic logs have is left out on others.
        seeds: Seeds.
        models: Models for faults that can be planted in any; one that fits none of these is
            planted in the first model it names.
        only: Ids to restrict the jobs to; empty means all.
        kinds: Groups of faults.

    Raises:
        ValueError: An id in `only` is unknown.
    """
    _check_ids(only, catalogue)
    jobs = []
    for seed in seeds:
        for log in data:
            for kind, fault in catalogue.faults.values():
                wanted = kind in kinds and (not only or fault.id in only)
                if not wanted or not _fits(fault.needs | fault.settings, log):
                    continue
                for model in _models(fault.models, models):
                    jobs.append(Job(kind, fault.id, model, log, seed))
    return jobs


def healthy_jobs(
    catalogue: Catalogue,
    *,
    data: Sequence[str] = ("synthetic",),
    seeds: Sequence[int] = DEVELOPMENT_SEEDS,
    models: Sequence[str] = HEALTHY_MODELS,
    only: Sequence[str] = (),
    effort: str = "",
) -> list[Job]:
    """Return a job per healthy variant, model it is meant for, log and seed."""
    _check_ids(only, catalogue)
    jobs = []
    for seed in seeds:
        for log in data:
            for variant in catalogue.variants.values():
                if (only and variant.id not in only) or not _fits(variant.settings, log):
                    continue
                for model in _suited(variant, _models(variant.models, models)):
                    jobs.append(Job("healthy", variant.id, model, log, seed, effort=effort))
    return jobs


def clean_job(job: Job, catalogue: Catalogue) -> Job:
    """Return the job of the program a fault is planted in."""
    _, fault = catalogue.faults[job.id]
    settings = tuple(sorted(fault.needs.items()))
    digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:8] if settings else "usual"
    return Job("clean", digest, job.model, job.data, job.seed, settings)


def _fits(settings: Mapping[str, Any], data: str) -> bool:
    return data == "synthetic" or not set(settings) & (set(LOG_SETTINGS) - set(EDITS))


def _models(own: frozenset[str], wanted: Sequence[str]) -> list[str]:
    chosen = [model for model in wanted if not own or model in own]
    return chosen or sorted(own)[:1]


def _suited(variant: HealthyVariant, models: Sequence[str]) -> list[str]:
    """Leave out models that lack what a variant sets."""
    heads = {"sasrec", "slstm", "mlstm", "xlstm"}
    blocks = heads - {"sasrec"}
    needed = {
        "num_heads": heads,
        "conv_kernel": blocks,
        "slstm_conv_gates": {"slstm", "xlstm"},
        "num_layers": set(MODELS) - {"linear"},
    }
    limits = [needed[name] for name in variant.settings if name in needed]
    return [model for model in models if all(model in limit for limit in limits)]


def _check_ids(only: Sequence[str], catalogue: Catalogue) -> None:
    known = {*catalogue.faults, *catalogue.variants}
    if unknown := sorted(set(only) - known):
        raise ValueError(
            f"{unknown} are no faults or variants; `assay faults list` lists them. "
            "Give ids as they stand there."
        )
