"""Clips played to the live look-up, and what its answers are worth: used by ``bench_live``."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import fields
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from edge_claid.config import LiveSettings
from edge_claid.frames import open_stream
from edge_claid.live import FrameAnswer, LiveEvent, Lookup, PipelineLooker, WatchedGallery
from edge_claid.live.association import box_overlaps
from edge_claid.live.look import Look
from edge_claid.live.lookup import Namer
from edge_claid.records import Frame, Regions, SourceEvent, TimedFrame
from edge_claid.runners.onnx_runner import usable_cores

FOUND, AWAY = 0.3, 0.1  # IoU from which a box is right, and under which it is wrong


class Stepped:
    """Every n-th frame of a clip, as a file gives it."""

    live, dropped = False, 0

    def __init__(self, path: Path, step: int) -> None:
        self._stream, self._step = open_stream(path), step

    def __enter__(self) -> Stepped:
        self._stream.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.__exit__()

    def read(self, timeout: float | None = None) -> TimedFrame | SourceEvent | None:
        while True:
            found = self._stream.read(timeout)
            if not isinstance(found, TimedFrame) or found.number % self._step == 0:
                return found


class Camera:
    """A clip played in real time, as a camera gives it: always the newest frame, the others dropped."""

    live = True

    def __init__(self, frames: list[Frame], per_second: float, seconds: float) -> None:
        self._frames, self._rate, self._seconds = frames, per_second, seconds
        self._start, self._number, self._taken = time.monotonic(), -1, 0

    @property
    def dropped(self) -> int:
        return self._number + 1 - self._taken

    def read(self, timeout: float | None = None) -> TimedFrame | SourceEvent | None:
        now = time.monotonic() - self._start
        if now > self._seconds:
            return SourceEvent("ended", time.time())
        newest = int(now * self._rate)
        if newest <= self._number:
            time.sleep((self._number + 1) / self._rate - now)
            newest = self._number + 1
        self._number, self._taken = newest, self._taken + 1
        captured = self._start + newest / self._rate
        return TimedFrame(self._frames[newest % len(self._frames)], newest, time.time(), captured)


class RememberingLooker:
    """Looks at each picture once, whatever is sought in it.

    folder: where looks are kept for the next run; they belong to one pipeline.
    """

    def __init__(self, looker: PipelineLooker, folder: Path) -> None:
        self._looker, self._folder = looker, folder
        folder.mkdir(parents=True, exist_ok=True)

    def look(self, frame: Frame) -> Look:
        file = self._folder / f"{hashlib.blake2b(frame.pixels, digest_size=16).hexdigest()}.npz"
        if file.exists():
            with np.load(file) as kept:
                parts = {field.name: kept[field.name] for field in fields(Regions)}
                sizes = {name: tuple(map(int, parts[name])) for name in ("grid", "image_size")}
                return Look(Regions(**{**parts, **sizes}), kept["descriptors"])
        look = self._looker.look(frame)
        parts = {field.name: getattr(look.regions, field.name) for field in fields(Regions)}
        unfinished = file.with_suffix(f".{threading.get_ident()}.npz")
        np.savez(unfinished, descriptors=look.descriptors, **parts)
        unfinished.replace(file)
        return look


class Answers:
    """A sink that keeps tracks and numbers of every answer, not the pictures."""

    lossless = True

    def __init__(self) -> None:
        self.found: list[tuple[int, float, tuple[Any, ...]]] = []

    def frame(self, answer: FrameAnswer) -> None:
        self.found.append((answer.number, answer.time, answer.tracks))

    def event(self, event: LiveEvent) -> None:
        """Not measured here."""

    def close(self) -> None:
        """Nothing to close."""


def answers(clip: Path, step: int, looker: Any, watched: WatchedGallery, namer: Namer, settings: LiveSettings) -> list:
    kept = Answers()
    with Stepped(clip, step) as source:
        lookup = Lookup(source, looker, watched, namer, settings, [kept], workers=usable_cores())
        lookup.start()
        lookup.wait()
        lookup.stop()
    return kept.found


def confirmed(tracks: tuple[Any, ...]) -> list[Any]:
    return [track for track in tracks if track.state == "confirmed"]


def best_overlap(tracks: list[Any], label: str, box: list[float]) -> float:
    boxes = [track.box for track in tracks if track.label == label]
    return float(box_overlaps(np.array(boxes), np.array([box])).max()) if boxes else 0.0


def clip_figures(found: list, label: str, truth: dict[int, list[list[float]]]) -> dict[str, Any]:
    """Shares over frames with truth, and wrong confirmations as tracks a minute.

    A track is wrong that is confirmed as another thing, or as the thing away from every true box, in any one frame.
    """
    hits, overlap = [], []
    wrong: dict[str, set] = {"another": set(), "away": set()}
    for number, _, tracks in found:
        sure = confirmed(tracks)
        wrong["another"] |= {(t.id, t.label or t.gallery_image) for t in sure if t.label != label}
        for box in truth.get(number, ()):
            overlap.append(best_overlap(sure, label, box))
            hits.append(overlap[-1] >= FOUND)
        if number in truth:
            own = [t for t in sure if t.label == label]
            inside = [max((best_overlap([t], label, box) for box in truth[number]), default=0.0) for t in own]
            wrong["away"] |= {t.id for t, overlap_ in zip(own, inside, strict=True) if overlap_ < AWAY}
    seconds = (found[-1][1] - found[0][1]) * len(found) / max(len(found) - 1, 1)
    tracks_wrong = {name: len(some) for name, some in wrong.items()}
    return {
        "share_found": round(float(np.mean(hits)), 4) if hits else None,
        "mean_iou": round(float(np.mean(overlap)), 4) if overlap else None,
        "wrong_tracks": tracks_wrong,
        "wrong_tracks_per_minute": round(sum(tracks_wrong.values()) / seconds * 60, 2),
        "frames": len(found),
    }


def seconds_to_return(found: list, label: str, returns: dict[str, list[float]]) -> dict[str, float | None]:
    """Seconds from the frame where a thing is back to the first confirmed box on it; boxes may move: nearest counts."""
    taken: dict[str, float | None] = {}
    for first, box in returns.items():
        later = [(time, tracks) for number, time, tracks in found if number >= int(first)]
        start = later[0][0] if later else 0.0
        hits = (time - start for time, tracks in later if best_overlap(confirmed(tracks), label, box) > AWAY)
        when = next(hits, None)
        taken[first] = None if when is None else round(when, 3)
    return taken


def frames_of(clip: Path, numbers: list[int]) -> dict[int, Frame]:
    """These frames of a clip."""
    found: dict[int, Frame] = {}
    with open_stream(clip) as stream:
        while len(found) < len(numbers) and isinstance(timed := stream.read(), TimedFrame):
            if timed.number in numbers:
                found[timed.number] = timed.frame
    return found


def boxes_of(value: Any) -> list[list[float]]:
    """Boxes of a key frame: none, one, or several."""
    return [] if value is None else value if isinstance(value[0], list) else [value]


def medians(figures: list[dict[str, Any]]) -> dict[str, float]:
    """Of runs that show the object in different frames."""
    return {
        name: median(each[name] for each in figures) for name in ("share_found", "mean_iou", "wrong_tracks_per_minute")
    }
