"""One finding of the doctor."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARNING, PROBLEM = "ok", "warning", "problem"


@dataclass(frozen=True)
class Check:
    """name: what was looked at. state: "ok", "warning" (it works, but not as it could) or "problem" (it does not work).

    told: what was found. fix: what to do about it, "" where there is nothing to do.
    """

    name: str
    state: str
    told: str
    fix: str = ""
