"""Lengths of time as users write them."""

from __future__ import annotations

import re

from edge_claid.errors import UsageError

_UNITS = {"": 1.0, "s": 1.0, "ms": 0.001, "m": 60.0, "min": 60.0, "h": 3600.0}


def seconds_from_text(text: str, option: str, least: float) -> float | None:
    """``500ms``, ``1s``, ``2.5``, ``1m`` in seconds; None for ``0`` and ``none``. Raises UsageError below ``least``."""
    if text.strip().lower() in ("0", "none", "never"):
        return None
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)", text.strip().lower())
    if match is None or match[2] not in _UNITS:
        raise UsageError(f"{option} {text!r} is no length of time; write it like 500ms, 1s, 2.5s or 1m")
    seconds = float(match[1]) * _UNITS[match[2]]
    if not least <= seconds <= 1e6:
        raise UsageError(f"{option} {text} must be at least {least:g} s")
    return seconds
