"""Names of the files that verbs save: of any name a picture or a query has, one that every file system takes."""

from __future__ import annotations

import os
import re

_MOST_BYTES = 200  # what is put before and behind it stays within 255


class SavedNames:
    """Gives names for the files about one thing each; no two things get the same."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def name_of(self, thing: str) -> str:
        """A name without folders or suffix for a thing called by a path, a word or anything else."""
        plain = saved_stem(thing)
        name, number = plain, 1
        while name.casefold() in self._given:
            number += 1
            name = f"{plain}-{number}"
        self._given.add(name.casefold())
        return name


def saved_stem(path: str) -> str:
    """The last part of a path without its suffix; ``_`` for what no file name should hold."""
    stem = os.path.splitext(os.path.basename(path.rstrip("/")))[0]
    plain = re.sub(r"[^\w ()+,=@.#-]", "_", stem).strip(" .")
    return plain.encode()[:_MOST_BYTES].decode(errors="ignore") or "query"
