"""Checkpoints that survive a kill at any moment: atomic, checksummed, two generations.

A checkpoint is a pair of files: ``step_00001234.safetensors`` with every tensor, and, written after
it, ``step_00001234.json`` with everything else and the checksum of both. Each is written to a
temporary file, flushed to the disk and renamed; a checkpoint exists once its JSON file does. No
pickle.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from tasks.data.storage import write_whole

FORMAT_VERSION = 1
NUM_KEPT = 2


class CheckpointError(ValueError):
    """A checkpoint is damaged, of another format version, or of another run."""


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint as read.

    Attributes:
        step: optimiser steps made when it was written.
        tensors: tensors by name, on the CPU.
        state: the JSON part.
    """

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


class CheckpointFolder:
    """The checkpoints of one run.

    Args:
        folder: made when first written to.
        identity: what the run is (model, settings, data); a checkpoint of any other is refused.
    """

    def __init__(self, folder: Path, identity: str = "") -> None:
        self.folder = folder
        self.identity = identity

    def save(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> Path:
        """Writes a checkpoint, then removes all but the newest two; returns its JSON file."""
        path = self.write(f"step_{step:012d}", step, tensors, state)
        for old in self._manifests()[NUM_KEPT:]:
            self._remove(old)
        return path

    def save_failure(
        self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]
    ) -> Path:
        """Writes the state a run failed in; it is for looking at and never resumed from."""
        return self.write("failure", step, tensors, state)

    def write(
        self, name: str, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]
    ) -> Path:
        """Writes one checkpoint under a name of its own; returns its JSON file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # A copy each: safetensors refuses tensors that share memory, as tied weights do.
        copies = {key: tensor.detach().cpu().clone() for key, tensor in tensors.items()}
        blob = save_tensors({key: tensor.contiguous() for key, tensor in copies.items()})
        body = {
            "format_version": FORMAT_VERSION,
            "identity": self.identity,
            "step": step,
            "tensors_sha256": hashlib.sha256(blob).hexdigest(),
            "torch": torch.__version__,
            "state": dict(state),
        }
        text = json.dumps(body)
        signed = json.dumps({"sha256": hashlib.sha256(text.encode()).hexdigest(), "body": text})
        write_whole(self.folder / f"{name}.safetensors", blob)
        return write_whole(self.folder / f"{name}.json", signed.encode())

    def load_latest(self) -> tuple[Checkpoint | None, list[str]]:
        """Reads the newest sound checkpoint and removes unusable newer ones.

        Returns:
            The checkpoint, or None when there is none; and why each newer one was passed over.
        """
        rejected = []
        for manifest in self._manifests():
            try:
                return self.read(manifest), rejected
            except (CheckpointError, FileNotFoundError) as error:
                rejected.append(str(error))
                # Left in place it would count as one of the two generations that are kept.
                self._remove(manifest)
        return None, rejected

    def read(self, manifest: Path) -> Checkpoint:
        """Reads and verifies one checkpoint.

        Args:
            manifest: its JSON file.

        Raises:
            CheckpointError: it is damaged, or of another version or run; the message names it.
        """
        try:
            signed = json.loads(manifest.read_bytes())
            text = signed["body"]
            is_sound = hashlib.sha256(text.encode()).hexdigest() == signed["sha256"]
        except (ValueError, KeyError, TypeError, AttributeError):
            is_sound = False
        if not is_sound:
            raise CheckpointError(f"checkpoint {manifest} is damaged (checksum of its JSON).")
        body = json.loads(text)
        expected = {"format_version": FORMAT_VERSION, "identity": self.identity}
        for key, value in expected.items():
            if body.get(key) != value:
                raise CheckpointError(
                    f"checkpoint {manifest} has {key} {body.get(key)!r}; expected {value!r}."
                )
        blob = manifest.with_suffix(".safetensors").read_bytes()
        if hashlib.sha256(blob).hexdigest() != body["tensors_sha256"]:
            raise CheckpointError(f"checkpoint {manifest} is damaged (checksum of its tensors).")
        return Checkpoint(body["step"], load_tensors(blob), body["state"])

    def discard(self, step: int) -> None:
        """Removes the checkpoint of a step, for one that can't be resumed from after all."""
        self._remove(self.folder / f"step_{step:012d}.json")

    def clear(self) -> None:
        """Removes every checkpoint of the run, and the folder if nothing else is in it."""
        if not self.folder.is_dir():
            return
        for path in self.folder.iterdir():
            if path.suffix in {".safetensors", ".json", ".part"}:
                path.unlink()
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _manifests(self) -> list[Path]:
        return sorted(self.folder.glob("step_*.json"), reverse=True)

    def _remove(self, manifest: Path) -> None:
        # The JSON goes first: without it the checkpoint no longer exists.
        manifest.unlink(missing_ok=True)
        manifest.with_suffix(".safetensors").unlink(missing_ok=True)
