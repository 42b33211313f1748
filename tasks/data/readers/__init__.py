"""Readers of interaction logs: every supported format to one table and a report."""

from tasks.data.readers.errors import DataError
from tasks.data.readers.interactions import read_interactions
from tasks.data.readers.preview import Preview, preview
from tasks.data.readers.report import ReadReport

__all__ = ["DataError", "Preview", "ReadReport", "preview", "read_interactions"]
