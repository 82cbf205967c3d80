"""Enrolments that are cut short: of a folder of pictures and of one of videos, both changed since the last time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import forked
from cut_world import Step, World, digest

from edge_claid.gallery.clips import frame_digest, video_of
from edge_claid.gallery.enrolment import enroll as enrolment

_HERE = ("added", "replaced", "moved", "unchanged")  # statuses of what the gallery holds
Reports = Callable[[str], tuple[set[bytes], set[bytes]]]


def enrol(world: World) -> Step:
    """Pictures are new, rewritten, renamed and gone. ``enroll --prune`` follows it."""
    _change_photos(world)
    own = {path.name: digest(path) for path in world.photos.iterdir()}

    def reports(line: str) -> tuple[set[bytes], set[bytes]]:
        told = json.loads(line)
        return ({own[Path(told["file"]).name]} if told.get("status") in _HERE else set()), set()

    return _enrolment(world, "enrol", world.photos, set(own.values()), reports)


def enrol_videos(world: World) -> Step:
    """The same of videos, whose key frames are the images."""
    _change_films(world)
    own = {path.name: _frames(path) for path in world.films.iterdir()}

    def reports(line: str) -> tuple[set[bytes], set[bytes]]:
        told = json.loads(line)
        if told.get("status") not in _HERE:
            return set(), set()
        name = Path(told["file"]).name
        if video_of(name) == name:
            return set(own[name].values()), set()
        return {own[video_of(name)][name]}, set()

    contents = {content for frames in own.values() for content in frames.values()}
    return _enrolment(world, "enrol videos", world.films, contents, reports)


def _enrolment(world: World, name: str, folder: Path, own: set[bytes], reports: Reports) -> Step:
    foreign = {row.content_hash for row in world.images() if row.root != folder.name}

    def work() -> None:
        assert hasattr(enrolment, "_BATCH_FILES")
        enrolment._BATCH_FILES = world.batch_files
        forked.command(["enroll", str(folder), "--gallery", str(world.gallery), "--prune", "--json"])

    return Step(name, work, frozenset(own) | frozenset(foreign), reports)


def _frames(path: Path) -> dict[str, bytes]:
    """Name of each key frame of a video that shows another thing each second, to its content hash."""
    content = digest(path)
    seconds = range(int(path.stem.rpartition("-")[2]))
    return {f"{path.name}#t={second}.000": frame_digest(content, float(second)) for second in seconds}


def _change_photos(world: World) -> None:
    rng, files = world.rng, sorted(world.photos.iterdir())
    rng.shuffle(files)
    for path in files[: max(len(files) // 8, len(files) + 40 - world.most)]:
        path.unlink()
    left = sorted(world.photos.iterdir())
    rng.shuffle(left)
    for path in left[:5]:
        world.write_picture(path)
    for path in left[5:8]:
        path.rename(path.with_name(f"renamed{world.new_number()}{path.name[-12:]}"))
    for _ in range(int(rng.integers(10, 40))):
        world.write_picture(world.photos / f"{world.new_number():012}.png")


def _change_films(world: World) -> None:
    rng, files = world.rng, sorted(world.films.iterdir())
    rng.shuffle(files)
    for path in files[: max(len(files) // 4, len(files) - 5)]:
        path.unlink()
    left = sorted(world.films.iterdir())
    rng.shuffle(left)
    for path in left[:1]:
        world.write_video(path, int(path.stem.rpartition("-")[2]))
    for path in left[1:2]:
        path.rename(path.with_name(f"renamed{world.new_number()}-{path.stem.rpartition('-')[2]}.mp4"))
    for _ in range(int(rng.integers(1, 4))):
        seconds = int(rng.integers(2, 5))
        world.write_video(world.films / f"{world.new_number()}-{seconds}.mp4", seconds)
