"""What a JSON sidecar says of its picture: ``{"label": "cup", "taken": "2024-05-01T12:00:00", "latitude": 60.2, …}``.

It lies on a foreign stick, so it is read within bounds and every value is checked; keys that are not known are left
alone, as other programs keep their own there.
"""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import dataclass
from typing import Any

from edge_claid.errors import UsageError

_MOST_BYTES = 64_000
_LONGEST_LABEL = 1_000
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", re.ASCII)


@dataclass(frozen=True)
class Sidecar:
    """label; taken: ISO time without zone; latitude, longitude: degrees. None where it says nothing of it."""

    label: str | None = None
    taken: str | None = None
    latitude: float | None = None
    longitude: float | None = None


def read_sidecar(path: str) -> Sidecar:
    """Read one sidecar. Raises UsageError naming what is wrong with it."""
    name = os.path.basename(path)
    try:
        content = json.loads(_bounded(path, name).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"sidecar {name} is no JSON ({_short(error)})") from error
    if not isinstance(content, dict):
        raise UsageError(f"sidecar {name} holds a {type(content).__name__}; it must hold an object")
    latitude, longitude = _degrees(content, "latitude", 90, name), _degrees(content, "longitude", 180, name)
    if latitude is None or longitude is None:
        latitude = longitude = None
    return Sidecar(_label(content.get("label"), name), _taken(content.get("taken"), name), latitude, longitude)


def _bounded(path: str, name: str) -> bytes:
    # O_NONBLOCK: opening a FIFO must not wait for a writer that never comes.
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UsageError(f"sidecar {name} is no regular file")
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"sidecar {name} cannot be read ({error.strerror})") from error
    if len(content) > _MOST_BYTES:
        raise UsageError(f"sidecar {name} is larger than {_MOST_BYTES:,} bytes")
    return content


def _label(value: Any, name: str) -> str | None:
    if value is None:
        return None
    text = value.strip() if isinstance(value, str) else None
    if not text or len(text) > _LONGEST_LABEL or not text.isprintable():
        raise UsageError(f"sidecar {name}: its label must be one line of 1 to {_LONGEST_LABEL:,} characters")
    return text


def _taken(value: Any, name: str) -> str | None:
    if value is None:
        return None
    match = _TIME.match(value) if isinstance(value, str) else None
    if match is None:
        raise UsageError(f"sidecar {name}: taken must be a time like 2024-05-01T12:00:00")
    return match[0]


def _degrees(content: dict[str, Any], key: str, most: int, name: str) -> float | None:
    value = content.get(key)
    if value is None:
        return None
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # The comparison is false for NaN too.
    if not number or not abs(value) <= most:
        raise UsageError(f"sidecar {name}: {key} must be a number from -{most} to {most}")
    return float(value)


def _short(error: Exception) -> str:
    return str(error).split("\n", 1)[0][:100]
