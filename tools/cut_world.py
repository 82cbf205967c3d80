"""Pictures, videos, a gallery, and what must hold of the gallery after any command that was cut short.

An operation leads from the contents the gallery had to those it is to have. At any moment between, nothing may be gone
that belongs to both, nor what was reported as done on stdout; there may be nothing that belongs to neither.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import stand_in

from edge_claid.codes.space import CodeSpace
from edge_claid.errors import EdgeClaidError
from edge_claid.gallery.clips import file_of, frame_digest, seconds_of, video_of
from edge_claid.gallery.roots import all_roots
from edge_claid.gallery.storage.rows import ImageRow
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.upkeep.verify import verify

State = frozenset[bytes]  # content hashes of the images that are searched


@dataclass(frozen=True)
class Step:
    """One operation. work: done in a child process. after: what the gallery is to hold when it is done.

    reports: what a line on stdout claims, as (contents now there, contents now gone). codes: exit codes that are well.
    also: lines on stdout, and whether it ran to its end, to what else is wrong, in words.
    """

    name: str
    work: Callable[[], None]
    after: State
    reports: Callable[[str], tuple[set[bytes], set[bytes]]] = field(default=lambda line: (set(), set()))
    codes: tuple[int, ...] = (0,)
    also: Callable[[list[str], bool], list[str]] = field(default=lambda lines, done: [])


KINDS = ("lost", "doubled", "unreadable", "unasked", "failed", "hung")


@dataclass
class Found:
    """What a check found wrong, counted by kind, and in words."""

    counts: Counter[str] = field(default_factory=Counter)
    words: list[str] = field(default_factory=list)

    def add(self, kind: str, number: int, words: str) -> None:
        if number:
            self.counts[kind] += number
            self.words.append(f"{kind}: {number} {words}")

    def take(self, more: Found) -> None:
        """What another check found, too."""
        self.counts += more.counts
        self.words += more.words

    def figures(self) -> dict[str, int]:
        """How much of each kind, for a results file; none is left out."""
        return {kind: self.counts[kind] for kind in KINDS}


class World:
    """Pictures and videos on a stick, a gallery, and a second gallery to be merged into it.

    most: pictures in the folder. batch_files: files that an enrolment commits together; fewer are more commits to be
    cut between.
    """

    def __init__(self, place: Path, seed: int, most: int = 90):
        self.rng = np.random.default_rng(seed)
        self.most = most
        self.photos, self.films, self.others = place / "photos", place / "films", place / "others"
        self.medium = place / "medium"
        self.gallery, self.second = self.medium / "shop.claid", place / "second.claid"
        self.copy, self.table = self.medium / "copy.claid", place / "table.jsonl"
        for folder in (self.photos, self.films, self.others, self.medium, place / "config" / "edge-claid"):
            folder.mkdir(parents=True)
        (place / "config" / "edge-claid" / "config.toml").write_text(stand_in.SETTINGS)
        os.environ["XDG_CONFIG_HOME"] = str(place / "config")
        self.batch_files = 6
        self.spaces: list[CodeSpace] = []
        self._seed = seed * 1_000_000

    def images(self) -> list[ImageRow]:
        """Rows of the gallery's searched images; none where there is no gallery yet."""
        return images_of(self.gallery)

    def state(self) -> State:
        return frozenset(row.content_hash for row in self.images())

    def on_disk(self) -> State:
        """Of the gallery's images those whose file is where it was, with the same content."""
        if not self.gallery.exists():
            return frozenset()
        with Gallery.open(self.gallery) as gallery:
            places = {root.id: root.location for root in all_roots(gallery)}
            rows = [(row, os.path.join(places[row.root_id], row.path)) for row in gallery.images()]
        return frozenset(row.content_hash for row, path in rows if content_at(path) == row.content_hash)

    def new_number(self) -> int:
        """Never the same twice, so that no two pictures or videos are the same by accident."""
        self._seed += 1
        return self._seed

    def write_picture(self, path: Path) -> None:
        stand_in.write_picture(path, self.new_number())
        self._age(path)

    def write_video(self, path: Path, seconds: int) -> None:
        """So many seconds, of which each is a key frame."""
        stand_in.write_video(path, [self.new_number() for _ in range(seconds)])
        self._age(path)

    def _age(self, path: Path) -> None:
        # Old enough for its time to be trusted: what is enrolled twice is then settled without reading it.
        os.utime(path, (1_600_000_000 + self._seed % 10_000_000,) * 2)


def check(world: World, before: State, step: Step, lines: list[str], done: bool) -> Found:
    """What is wrong with the gallery after a step that was cut short, or ``done``."""
    found = Found()
    there, gone = set(), set()
    for line in lines:
        now_there, now_gone = step.reports(line)
        there |= now_there
        gone |= now_gone
    must = step.after if done else (before & step.after) | there
    may = step.after if done else (before | step.after) - gone
    try:
        contents = Counter(row.content_hash for row in world.images())
        problems = _unreadable(world)
        more = step.also(lines, done)
    except EdgeClaidError as error:
        found.add("unreadable", len(must), f"of all images: {error}")
        return found
    found.add("lost", len(must - set(contents)), f"of {len(must)} images that must be there")
    found.add("doubled", sum(count - 1 for count in contents.values()), "images")
    found.add("unasked", len(set(contents) - may), "images that are not to be there")
    found.add("unreadable", len(problems), f"problems, first: {problems[0] if problems else ''}")
    found.add("failed", len(more), f"promises, first: {more[0] if more else ''}")
    if done:
        left = left_over(world)
        found.add("unasked", len(left), f"files left beside the gallery: {', '.join(left)}")
    return found


def images_of(path: Path) -> list[ImageRow]:
    """Rows of a gallery's searched images; none where there is no such file."""
    if not path.exists():
        return []
    with Gallery.open(path) as gallery:
        return list(gallery.images())


def left_over(world: World) -> list[str]:
    """Files beside the gallery that no command meant to leave there: logs, half-made copies."""
    meant = (world.gallery.name, world.copy.name)
    names = (file.name for file in world.medium.iterdir())
    return sorted(name for name in names if name not in meant and ".damaged" not in name)


def digest(path: Path) -> bytes:
    return hashlib.blake2b(path.read_bytes(), digest_size=32).digest()


def content_at(path: str) -> bytes | None:
    """Content hash of a picture, or of a video's frame, as it is on the disk now; None where it is gone."""
    file = Path(file_of(path))
    if not file.exists():
        return None
    return frame_digest(digest(file), seconds_of(path)) if video_of(path) != path else digest(file)


def _unreadable(world: World) -> list[str]:
    """Everything is read: what ``verify`` finds, every region tree, the index, and codes against their descriptors."""
    if not world.gallery.exists():
        return []
    with Gallery.open(world.gallery) as gallery:
        problems = [f"{problem.image}: {problem.what}" for problem in verify(gallery)]
        for row in gallery.images():
            gallery.regions(row.id)
        index, space = gallery.load_index(), gallery.space
        if len(index.image_ids) != len(gallery):
            problems.append("the index has another number of images than the gallery")
        if space is not None and gallery.info().keep_descriptors and len(gallery):
            exact = gallery.load_index(exact=True)
            if not np.array_equal(space.encode(exact.descriptors.astype(np.float32)), exact.codes):
                problems.append("codes are not those of their descriptors")
    return problems
