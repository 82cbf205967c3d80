"""The report file of an enrolment: one line per file, CSV by its suffix, else JSON lines."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from edge_claid.errors import StorageError
from edge_claid.gallery.enrolment.outcome import Outcome, Summary

_COLUMNS = ("file", "status", "regions", "reason")


class ReportFile:
    """Written as files are done. Use in a ``with`` block. Raises StorageError where it cannot be written."""

    def __init__(self, path: Path):
        self._path = path
        self._csv = path.suffix.lower() == ".csv"

    def __enter__(self) -> ReportFile:
        try:
            # A name that is no text keeps its own bytes in CSV; JSON escapes it. Line by line, as a run may be killed.
            self._file = self._path.open("w", 1, encoding="utf-8", errors="surrogateescape", newline="")
        except OSError as error:
            raise StorageError(f"report {self._path} cannot be written ({error.strerror})") from error
        if self._csv:
            self._write(lambda: csv.writer(self._file).writerow(_COLUMNS))
        return self

    def __exit__(self, *_: object) -> None:
        self._write(self._file.close)

    def add(self, outcome: Outcome) -> None:
        """One file."""
        row = outcome.as_json()
        if self._csv:
            self._write(lambda: csv.writer(self._file).writerow([row[name] for name in _COLUMNS]))
        else:
            self._write(lambda: self._file.write(json.dumps(row) + "\n"))

    def close_with(self, summary: Summary) -> None:
        """The last line, in JSON lines only: a table has no place for it."""
        if not self._csv:
            self._write(lambda: self._file.write(json.dumps(summary.as_json()) + "\n"))

    def _write(self, action) -> None:  # type: ignore[no-untyped-def]
        try:
            action()
        except OSError as error:
            raise StorageError(f"report {self._path} cannot be written ({error.strerror})") from error
