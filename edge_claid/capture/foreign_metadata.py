"""Titles in a container that are no UTF-8: what PyAV must be told so that they do not keep it from opening."""

from __future__ import annotations

import av


def options() -> dict[str, str]:
    """For ``av.open``. Before version 19 it refuses such a container unless told otherwise; 19 has no such option."""
    return {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
