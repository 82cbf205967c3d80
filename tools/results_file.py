"""Results files: figures with the machine, the versions and the day they were found."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks" / "results"


def write(path: Path, parts: dict[str, Any]) -> None:
    """Put these parts of a results file in place of earlier ones; other parts stay."""
    write_as_told(path, {name: {**part, **environment()} for name, part in parts.items()})


def write_as_told(path: Path, parts: dict[str, Any]) -> None:
    """The same for parts that name their machine already, having been measured on another one."""
    known = json.loads(path.read_text()) if path.exists() else {}
    known.update(parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(known, indent=1) + "\n")


def environment() -> dict[str, Any]:
    return {
        "machine": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "sqlite": sqlite3.sqlite_version,
        "date": date.today().isoformat(),
    }
