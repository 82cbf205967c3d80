"""A folder, a gallery and the operations that are cut short on them, with what must hold of the gallery after any cut.

An operation leads from the contents the gallery had to those it is to have. At any moment between, nothing may be gone
that belongs to both, nor what was reported as done on stdout; there may be nothing that belongs to neither.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import forked
import numpy as np
import stand_in

from edge_claid.codes.space import CodeSpace, train_space
from edge_claid.config import CodeSettings
from edge_claid.errors import EdgeClaidError, UsageError
from edge_claid.gallery import enroll as enrolment
from edge_claid.gallery.repair import repair
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.verify import verify

State = frozenset[bytes]  # content hashes of the images that are searched


@dataclass(frozen=True)
class Step:
    """One operation. work: done in a child process. after: what the gallery is to hold when it is done.

    reports: what a line on stdout claims, as (contents now there, contents now gone). codes: exit codes that are well.
    """

    name: str
    work: Callable[[], None]
    after: State
    reports: Callable[[str], tuple[set[bytes], set[bytes]]] = field(default=lambda line: (set(), set()))
    codes: tuple[int, ...] = (0,)


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

    def figures(self) -> dict[str, int]:
        """How much of each kind, for a results file; none is left out."""
        return {kind: self.counts[kind] for kind in KINDS}


class World:
    """Pictures on a stick, a gallery, and a second gallery to be merged into it. most: pictures in the folder."""

    def __init__(self, place: Path, seed: int, most: int = 90):
        self.rng = np.random.default_rng(seed)
        self.most = most
        self.photos, self.others = place / "photos", place / "others"
        self.medium = place / "medium"
        self.gallery, self.second = self.medium / "shop.claid", place / "second.claid"
        for folder in (self.photos, self.others, self.medium, place / "config" / "edge-claid"):
            folder.mkdir(parents=True)
        (place / "config" / "edge-claid" / "config.toml").write_text(stand_in.SETTINGS)
        os.environ["XDG_CONFIG_HOME"] = str(place / "config")
        self._seed = seed * 1_000_000
        self._batch_files = 6
        self._spaces: list[CodeSpace] = []

    # -- operations

    def enrol(self) -> Step:
        """The folder has changed: pictures are new, rewritten, renamed and gone. ``enroll --prune`` follows it."""
        self._change_folder()
        return self.enrol_unchanged()

    def enrol_unchanged(self) -> Step:
        own = {path.name: digest(path) for path in self.photos.iterdir()}
        foreign = {row.content_hash for row in self.images() if row.root != self.photos.name}

        def reports(line: str) -> tuple[set[bytes], set[bytes]]:
            told = json.loads(line)
            here = told.get("status") in ("added", "replaced", "moved", "unchanged")
            return ({own[Path(told["file"]).name]} if here else set()), set()

        def work() -> None:
            # Small batches: more commits to be cut between.
            assert hasattr(enrolment, "_BATCH_FILES")
            enrolment._BATCH_FILES = self._batch_files
            forked.command(["enroll", str(self.photos), "--gallery", str(self.gallery), "--prune", "--json"])

        return Step("enrol", work, frozenset(own.values()) | frozenset(foreign), reports)

    def remove(self) -> Step:
        """``gallery remove`` of some images by their paths."""
        rows = self.images()
        if not rows:
            return self.enrol()
        count = int(self.rng.integers(1, max(2, min(30, len(rows)))))
        chosen = {row.path: row.content_hash for row in (rows[i] for i in self.rng.permutation(len(rows))[:count])}
        kept = frozenset(row.content_hash for row in rows if row.path not in chosen)

        def reports(line: str) -> tuple[set[bytes], set[bytes]]:
            told = json.loads(line)
            return set(), ({chosen[told["image"]]} if told.get("status") == "removed" else set())

        arguments = ["gallery", "remove", str(self.gallery), *chosen, "--json"]
        # Named again after it was removed, it is wrong use.
        return Step("remove", lambda: forked.command(arguments), kept, reports, (0, UsageError.exit_code))

    def merge(self) -> Step:
        """``gallery merge`` of a gallery with pictures of its own and some that both have."""
        for file in [*self.others.iterdir(), *self.second.parent.glob(f"{self.second.name}*")]:
            file.unlink()
        for _ in range(int(self.rng.integers(5, 20))):
            self._write(self.others / f"{self._seed:012}.png")
        for path in sorted(self.photos.iterdir())[:4]:
            shutil.copy2(path, self.others / f"copy{path.name[-16:]}")
        made = forked.run(lambda: forked.command(["enroll", str(self.others), "--gallery", str(self.second)]))
        assert made.code == 0, made.error
        own = {path.name: digest(path) for path in self.others.iterdir()}

        def reports(line: str) -> tuple[set[bytes], set[bytes]]:
            told = json.loads(line)
            return ({own[told["image"]]} if told.get("status") == "added" else set()), set()

        arguments = ["gallery", "merge", str(self.gallery), str(self.second), "--json"]
        return Step("merge", lambda: forked.command(arguments), self.state() | frozenset(own.values()), reports)

    def compact(self) -> Step:
        """``gallery compact``."""
        return Step("compact", lambda: forked.command(["gallery", "compact", str(self.gallery)]), self.state())

    def adopt(self) -> Step:
        """The gallery takes another code space."""
        if not self._spaces:
            self._spaces = [_space(seed) for seed in range(2)]
        with Gallery.open(self.gallery) as gallery:
            now = gallery.space
        space = self._spaces[now is not None and now.id == self._spaces[0].id]

        def work() -> None:
            with Gallery.open(self.gallery, "rw") as gallery:
                gallery.adopt_space(space, keep_descriptors=True)
            print(json.dumps({"space": space.id}), flush=True)

        return Step("code-book change", work, self.state())

    def retrain(self) -> Step:
        """``gallery retrain``; too few images to be trained on are refused."""
        arguments = ["gallery", "retrain", str(self.gallery), "--json"]
        return Step("retrain", lambda: forked.command(arguments), self.state(), codes=(0, UsageError.exit_code))

    def repair(self) -> Step:
        """Everything that is sound goes into a new file that takes the gallery's place."""
        for file in self.medium.glob("*.damaged*"):
            file.unlink()

        def work() -> None:
            print(json.dumps({"images": repair(str(self.gallery)).images}), flush=True)

        return Step("repair", work, self.state())

    # -- state

    def images(self) -> list:
        """Rows of the gallery's searched images; none where there is no gallery yet."""
        if not self.gallery.exists():
            return []
        with Gallery.open(self.gallery) as gallery:
            return list(gallery.images())

    def state(self) -> State:
        return frozenset(row.content_hash for row in self.images())

    def _change_folder(self) -> None:
        rng, files = self.rng, sorted(self.photos.iterdir())
        rng.shuffle(files)
        for path in files[: max(len(files) // 8, len(files) + 40 - self.most)]:
            path.unlink()
        left = sorted(self.photos.iterdir())
        rng.shuffle(left)
        for path in left[:5]:
            self._write(path)
        for path in left[5:8]:
            path.rename(path.with_name(f"renamed{self._seed}{path.name[-12:]}"))
        for _ in range(int(rng.integers(10, 40))):
            self._write(self.photos / f"{self._seed:012}.png")

    def _write(self, path: Path) -> None:
        self._seed += 1
        stand_in.write_picture(path, self._seed)
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
    except EdgeClaidError as error:
        found.add("unreadable", len(must), f"of all images: {error}")
        return found
    found.add("lost", len(must - set(contents)), f"of {len(must)} images that must be there")
    found.add("doubled", sum(count - 1 for count in contents.values()), "images")
    found.add("unasked", len(set(contents) - may), "images that are not to be there")
    found.add("unreadable", len(problems), f"problems, first: {problems[0] if problems else ''}")
    return found


def digest(path: Path) -> bytes:
    return hashlib.blake2b(path.read_bytes(), digest_size=32).digest()


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


def _space(seed: int) -> CodeSpace:
    values = np.random.default_rng(seed).normal(size=(600, stand_in.DIM)).astype(np.float32)
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    return train_space(unit, CodeSettings(bytes=4, width=16, views=0), seed=seed)
