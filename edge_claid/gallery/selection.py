"""Which images of a gallery a verb means: by path, pattern, label or root. What is named outright is looked up."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from edge_claid.errors import UsageError
from edge_claid.gallery.roots import Root, all_roots
from edge_claid.gallery.storage.rows import ImageRow
from edge_claid.gallery.store import Gallery
from edge_claid.records import Hit

_WILD = frozenset("*?[")


@dataclass(frozen=True)
class Selection:
    """Images that meet every condition given; with none, all of them.

    paths: each a path relative to its root, ``ROOT/path``, or a pattern of either (``*`` and ``?`` match "/" too);
    an image meets one of them. label: exactly this one. root: name or location of an enrolment root.
    """

    paths: Sequence[str] = ()
    label: str | None = None
    root: str | None = None

    def __bool__(self) -> bool:
        """True where anything is asked for at all."""
        return bool(self.paths) or self.label is not None or self.root is not None

    def images(self, gallery: Gallery, displaced: bool = False) -> Iterator[ImageRow]:
        """The images meant, by id. displaced: those that are no longer searched instead.

        Raises UsageError where no root is called so.
        """
        roots = None if self.root is None else roots_called(gallery, self.root)
        for row in self._candidates(gallery, displaced):
            if roots is not None and row.root_id not in roots:
                continue
            if self.label is not None and row.label != self.label:
                continue
            if not self.paths or any(_meets(row, pattern) for pattern in self.paths):
                yield row

    def unmet(self, rows: Iterable[ImageRow]) -> list[str]:
        """The paths and patterns that none of the images meets: most likely misspelt."""
        return [pattern for pattern in self.paths if not any(_meets(row, pattern) for row in rows)]

    def _candidates(self, gallery: Gallery, displaced: bool) -> Iterable[ImageRow]:
        if displaced:
            return gallery.images(displaced=True)
        if self.paths and not any(_WILD & set(pattern) for pattern in self.paths):
            return _at_paths(gallery, self.paths)
        if self.label is not None:
            return gallery.images_labelled(self.label)
        return gallery.images()


def roots_called(gallery: Gallery, name: str) -> set[int]:
    """Ids of the roots of this name or location. Raises UsageError where there is none."""
    roots = all_roots(gallery)
    found = {root.id for root in roots if name in (root.name, root.location)}
    if not found:
        # A folder as the user writes it, from here.
        found = {root.id for root in roots if os.path.abspath(name) == root.location}
    if not found:
        known = ", ".join(sorted({root.name for root in roots})) or "none"
        raise UsageError(f"gallery {gallery.path} has no root {name!r}; it has: {known}")
    return found


def images_of_hits(gallery: Gallery, hits: Iterable[Hit]) -> list[tuple[ImageRow, Hit]]:
    """The image behind each hit. Raises UsageError where two roots of one name hold its path: which is not known."""
    found = []
    for hit in hits:
        rows = [row for row in gallery.images_at(hit.image) if row.root == hit.root]
        if len(rows) > 1:
            raise UsageError(
                f"two roots called {hit.root!r} hold {hit.image!r}, and only one of them is meant; "
                "remove it by its path and --root LOCATION"
            )
        found += [(row, hit) for row in rows]
    return found


def _at_paths(gallery: Gallery, paths: Sequence[str]) -> list[ImageRow]:
    names: list[Root] = all_roots(gallery)
    wanted = dict.fromkeys(paths)
    for path in paths:
        wanted.update((path[len(root.name) + 1 :], None) for root in names if path.startswith(f"{root.name}/"))
    rows = {row.id: row for path in wanted for row in gallery.images_at(path)}
    return [rows[image_id] for image_id in sorted(rows)]


def _meets(row: ImageRow, pattern: str) -> bool:
    names = row.path, f"{row.root}/{row.path}"
    return any(name == pattern or fnmatchcase(name, pattern) for name in names)
