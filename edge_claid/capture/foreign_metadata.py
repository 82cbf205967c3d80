"""Titles in a container that are no UTF-8: what PyAV must be told so that they do not keep it from opening."""

from __future__ import annotations

import av

# Before version 19 PyAV refuses such a container unless told otherwise; 19 keeps its bytes and has no such option.
OPTIONS: dict[str, str] = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
