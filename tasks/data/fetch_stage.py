"""Stage ``fetch``: put the raw log of ``data.source`` into ``data/raw``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.data.fetch import cache_folder, fetch_log
from tasks.data.generator import save_generator
from tasks.data.raw_log import RECORD_NAME, write_record
from tasks.data.readers.packing import open_log, split_member
from tasks.data.sources import FILE, SYNTHETIC, Source, find_source
from tasks.data.storage import replaced_folder
from tasks.data.synthetic import write_synthetic

if TYPE_CHECKING:
    from tasks.settings import DataSettings, Settings

RESERVED_NAMES = (RECORD_NAME, "generator.json", "generator.npz")


def run(settings: Settings, workspace: Path) -> dict:
    """Write ``data/raw/<log>`` and ``data/raw/source.json``.

    The folder is replaced in one step at the end: a failed or killed run leaves the previous one.

    Args:
        settings: The run's settings; only ``settings.data`` is read.
        workspace: Folder the run lives in.

    Returns:
        Source, file, size, SHA-256, origin and licence.

    Raises:
        DataError: ``data.path`` is no log that can be opened, or a download has the wrong content.
        SourceUnreachableError: No origin of the source answers.
    """
    source = find_source(settings.data.source)
    with replaced_folder(workspace / "data" / "raw") as folder:
        if source is SYNTHETIC:
            log, origin, member = _generate(settings.data, folder), "generated from settings", ""
        elif source is FILE:
            log, member = _copy_file(settings.data.path, workspace, folder)
            origin = "a file of the user"
        else:
            log, origin = _copy_fetched(source, folder)
            member = ""
        facts = {
            "source": source.name,
            "title": source.title,
            "licence": source.licence,
            "origin": origin,
            "member": member,
            "reading": dict(source.reading),
        }
        record = write_record(folder, log, facts)
    return {
        name: record[name] for name in ("source", "file", "size", "sha256", "origin", "licence")
    }


def _generate(data: DataSettings, folder: Path) -> Path:
    values = data.synthetic.model_dump()
    generator = write_synthetic(folder, values)
    save_generator(generator, folder, values)
    return folder / SYNTHETIC.file_name


def _copy_file(stated: str, workspace: Path, folder: Path) -> tuple[Path, str]:
    """Copy the user's log, after checking that it can be opened; return it and its member."""
    path, member = split_member(workspace / Path(stated).expanduser())
    open_log(f"{path}::{member}" if member else path)
    name = path.name if path.name not in RESERVED_NAMES else f"log_{path.name}"
    shutil.copyfile(path, folder / name)
    return folder / name, member


def _copy_fetched(source: Source, folder: Path) -> tuple[Path, str]:
    fetched = fetch_log(source, cache_folder())
    shutil.copyfile(fetched.path, folder / source.file_name)
    return folder / source.file_name, fetched.origin
