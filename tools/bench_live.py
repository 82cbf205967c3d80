"""The live look-up on real clips: frames confirmed, key frames, time to find again, wrong confirmations, speed.

    python tools/bench_live.py ../shared/data --work WORK [--step 1] [--distractors 0] [--sides 224 --sides 336 …]

The gallery holds the pictures of data/dev without the clip's own (their labels from gt.json), and, one at a time, cut-
outs of the clip's object. Needs about an hour on two cores; galleries in WORK are kept for the next run. Writes
benchmarks/results/live.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import time
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from results_file import write

from edge_claid import ops
from edge_claid.api import Gallery
from edge_claid.config import LiveSettings
from edge_claid.frames import open_stream
from edge_claid.live import FrameAnswer, LiveEvent, Lookup, PipelineLooker, Recogniser, Threshold, WatchedGallery
from edge_claid.live.association import box_overlaps
from edge_claid.live.look import Look
from edge_claid.live.lookup import Namer
from edge_claid.live.targets import finder_of, target_from_picture
from edge_claid.pipeline import Pipeline
from edge_claid.records import Frame, SourceEvent, TimedFrame
from edge_claid.runners.onnx_runner import usable_cores

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"
TRUTH = Path(__file__).with_name("live_truth.json")
PARTS = ("speed", "key_frames", "false_alarms", "tiger")
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
    """Looks at each frame once, whatever is sought in it."""

    def __init__(self, looker: PipelineLooker) -> None:
        self._looker, self._seen = looker, {}  # type: tuple[PipelineLooker, dict[bytes, Look]]

    def look(self, frame: Frame) -> Look:
        key = frame.name.encode()
        if key not in self._seen:
            self._seen[key] = self._looker.look(frame)
        return self._seen[key]


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
    """Shares over frames with truth, and confirmations in the wrong place or of the wrong thing, as tracks a minute."""
    hits, overlap, wrong = [], [], set()
    for number, _, tracks in found:
        sure = confirmed(tracks)
        if number in truth:
            for box in truth[number]:
                overlap.append(best_overlap(sure, label, box))
                hits.append(overlap[-1] >= FOUND)
            for track in sure:
                inside = max((best_overlap([track], label, box) for box in truth[number]), default=0.0)
                if inside < AWAY:
                    wrong.add((track.id, track.label or track.gallery_image))
        else:
            wrong |= {(t.id, t.label or t.gallery_image) for t in sure if t.label != label}
    seconds = found[-1][1] - found[0][1] + (found[-1][1] - found[0][1]) / max(len(found) - 1, 1)
    return {
        "share_found": round(float(np.mean(hits)), 4) if hits else None,
        "mean_iou": round(float(np.mean(overlap)), 4) if overlap else None,
        "wrong_tracks": len(wrong),
        "wrong_tracks_per_minute": round(len(wrong) / seconds * 60, 2),
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


def dev_gallery(data: Path, work: Path, pipeline: Pipeline, distractors: int) -> Path:
    """data/dev without the tiger clip's pictures, labelled where a picture shows one instance."""
    truth = json.loads((data / "dev" / "gt.json").read_text())
    shown: dict[str, set[str]] = {}
    instance = {query["id"]: query["instance"] for query in truth["queries"]}
    for query in truth["queries"]:
        shown.setdefault(query["image"], set()).add(query["instance"])
    for query_id, entries in truth["truth"].items():
        for entry in entries:
            shown.setdefault(entry["image"], set()).add(instance[query_id])
    pictures = work / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    images = [image for image in truth["images"] if "tiger" not in image["file"]]
    chosen = images[:: max(1, len(images) // distractors)] if distractors else images
    for image in chosen:
        target = pictures / Path(image["file"]).name
        if not target.exists():
            shutil.copyfile(data / "dev" / image["file"], target)
    path = work / "dev.claid"
    with Gallery.open(path) as gallery:
        gallery.enroll(pictures, pipeline, report=lambda outcome: None)
        label_of = {
            Path(i["file"]).name: min(shown.get(i["id"], ())) for i in chosen if len(shown.get(i["id"], ())) == 1
        }
        with gallery.writing() as connection:
            for row in gallery.images():
                connection.execute("UPDATE images SET label = ? WHERE id = ?", (label_of.get(row.path), row.id))
    return path


def with_cutout(gallery: Path, work: Path, pipeline: Pipeline, cutout: np.ndarray, name: str) -> Path:
    """A copy of the gallery with one more picture, labelled."""
    folder = work / f"cutout-{name}"
    folder.mkdir(exist_ok=True)
    cv2.imwrite(str(folder / f"{name}.png"), cv2.cvtColor(cutout, cv2.COLOR_RGB2BGR))
    copy = work / f"dev-{name}.claid"
    with Gallery.open(gallery) as source, source.reading() as connection:
        copy.unlink(missing_ok=True)
        connection.execute("SELECT 1").fetchone()
        shutil.copyfile(gallery, copy)
    with Gallery.open(copy) as added:
        added.enroll(folder, pipeline, label="object")
    return copy


def frames_of(clip: Path, numbers: list[int]) -> dict[int, Frame]:
    """These frames of a clip."""
    found: dict[int, Frame] = {}
    with open_stream(clip) as stream:
        while len(found) < len(numbers) and isinstance(timed := stream.read(), TimedFrame):
            if timed.number in numbers:
                found[timed.number] = timed.frame
    return found


class Bench:
    """Everything a measurement needs, opened once."""

    def __init__(self, pipeline: Pipeline, gallery: Path, work: Path, step: int) -> None:
        self.pipeline, self.gallery, self.work, self.step = pipeline, gallery, work, step
        self.settings = pipeline.settings.live
        self.looker = RememberingLooker(PipelineLooker(pipeline))
        self.threshold = Threshold.of(self.settings)

    def find(self, clip: Path, frame: Frame, box: list[float] | None, step: int) -> list:
        """Answers with the object shown in a box of a picture."""
        with WatchedGallery(str(self.gallery), self.pipeline, ops.load().code_scan) as watched:
            target = target_from_picture(self.pipeline, frame, box, "object")
            namer = finder_of([target], self.settings, self.threshold)
            return answers(clip, step, self.looker, watched, namer, self.settings)

    def recognise(self, clip: Path, gallery: Path, step: int, rate: float | None = None) -> list:
        """Answers with every region looked up in a gallery."""
        with WatchedGallery(str(gallery), self.pipeline, ops.load().code_scan) as watched:
            namer = Recogniser(self.settings, Threshold.of(self.settings, rate))
            return answers(clip, step, self.looker, watched, namer, self.settings)

    def tiger(self, videos: Path, shown_in: list[int]) -> dict[str, Any]:
        """The clip with a box for every frame, its object shown in one frame after another."""
        clip = videos / "tiger.mp4"
        with open(videos / "tiger_boxes.csv", newline="") as file:
            boxes = {int(r["frame"]): [float(r[key]) for key in ("x0", "y0", "x1", "y1")] for r in csv.DictReader(file)}
        truth = {number: [box] for number, box in boxes.items()}
        ways: dict[str, dict[str, Any]] = {"find_in_frame": {}, "find_cutout": {}, "recognise_cutout": {}}
        for number, frame in frames_of(clip, shown_in).items():
            x0, y0, x1, y1 = (round(value) for value in boxes[number])
            cutout = np.ascontiguousarray(frame.pixels[y0:y1, x0:x1])
            gallery = with_cutout(self.gallery, self.work, self.pipeline, cutout, f"tiger-{number}")
            runs = {
                "find_in_frame": self.find(clip, frame, boxes[number], self.step),
                "find_cutout": self.find(clip, Frame(cutout, f"cutout-{number}"), None, self.step),
                "recognise_cutout": self.recognise(clip, gallery, self.step),
            }
            for way, found in runs.items():
                ways[way][str(number)] = clip_figures(found, "object", truth)
                print(way, number, ways[way][str(number)], flush=True)
        return {way: {**_medians(list(each.values())), "shown_in_frame": each} for way, each in ways.items()}

    def false_alarms(self, videos: Path, steps: dict[str, int]) -> dict[str, Any]:
        """Confirmations a minute on footage with nothing of the gallery in it, by the rate that was asked for."""
        found: dict[str, Any] = {}
        for rate in (None, 600.0, 60.0, 1.0):
            name = "default" if rate is None else f"{rate:g} an hour"
            found[name] = {}
            for clip, step in steps.items():
                run = self.recognise(videos / f"{clip}.mp4", self.gallery, step, rate)
                figures = clip_figures(run, "", {})
                found[name][clip] = {key: figures[key] for key in ("wrong_tracks", "wrong_tracks_per_minute", "frames")}
        return found

    def key_frames(self, clip: Path, box: list[float], truth: dict[str, Any], returns: dict, step: int) -> dict:
        """A clip of which some frames are annotated; the object is shown in its first frame."""
        found = self.find(clip, frames_of(clip, [0])[0], box, step)
        boxes = {int(number): _boxes(value) for number, value in truth.items()}
        nearest = {min((n for n, _, _ in found), key=lambda n, wanted=wanted: abs(n - wanted)): value
                   for wanted, value in boxes.items()}  # fmt: skip
        figures = clip_figures(found, "object", nearest)
        return {**figures, "key_frames": len(nearest), "seconds_to_return": seconds_to_return(found, "object", returns)}


def _boxes(value: Any) -> list[list[float]]:
    return [] if value is None else value if isinstance(value[0], list) else [value]


def _medians(figures: list[dict[str, Any]]) -> dict[str, float]:
    return {
        name: median(each[name] for each in figures) for name in ("share_found", "mean_iou", "wrong_tracks_per_minute")
    }


def speed(pipeline: Pipeline, gallery: Path, clip: Path, side: int, seconds: float) -> dict[str, Any]:
    """Frames a second, latency and share of each stage with the clip played in real time, recognise mode."""
    settings = pipeline.settings.live
    frames = list(frames_of(clip, list(range(0, 120, 2))).values())
    with WatchedGallery(str(gallery), pipeline, ops.load().code_scan) as watched:
        namer = Recogniser(settings, Threshold.of(settings))
        source = Camera(frames, 25.0, seconds)
        lookup = Lookup(source, PipelineLooker(pipeline, side), watched, namer, settings, workers=usable_cores())
        lookup.start()
        lookup.wait()
        lookup.stop()
    summary = lookup.metrics.summary()
    means = {name: times["mean"] for name, times in summary["stages_ms"].items()}
    share = {name: round(value / sum(means.values()), 4) for name, value in means.items()}
    kept = {key: summary[key] for key in ("frames_per_second", "latency_ms", "dropped", "processed")}
    return {**kept, "stage_ms": means, "stage_share": share}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--step", type=int, default=1, help="every n-th frame of tiger and stone_sign")
    parser.add_argument("--bottle-step", type=int, default=5, help="every n-th frame of the 40 s bottle clip")
    parser.add_argument("--distractors", type=int, default=0, help="pictures of dev in the gallery, 0 for all")
    parser.add_argument("--shown-in", type=int, action="append", help="tiger frames that show the object")
    parser.add_argument("--sides", type=int, action="append")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each speed measurement")
    parser.add_argument("--out", type=Path, default=RESULTS / "live.json")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this; others in the file stay")
    asked = parser.parse_args()
    videos = asked.data / "videos"
    keys, own = json.loads((videos / "keyframes.json").read_text()), json.loads(TRUTH.read_text())
    asked.work.mkdir(parents=True, exist_ok=True)
    parts = asked.part or list(PARTS)
    with Pipeline.open() as pipeline:
        gallery = dev_gallery(asked.data, asked.work, pipeline, asked.distractors)
        bench = Bench(pipeline, gallery, asked.work, asked.step)
        how = {"step": asked.step, "distractors": asked.distractors}
        if "speed" in parts:
            clip, sides = videos / "tiger.mp4", asked.sides or [224, 336, 448]
            write(
                asked.out, {"speed": {str(side): speed(pipeline, gallery, clip, side, asked.seconds) for side in sides}}
            )
        if "key_frames" in parts:
            stone, bottle = keys["stone_sign.mp4"]["frames"], own["bottle-detection.mp4"]
            returns, clip = own["stone_sign.mp4"]["returns"], videos / "stone_sign.mp4"
            figures = {"stone_sign": bench.key_frames(clip, stone["0"], stone, returns, asked.step)}
            clip, first = videos / "bottle-detection.mp4", bottle["frames"]["0"][1]
            figures["bottle"] = bench.key_frames(clip, first, bottle["frames"], bottle["returns"], asked.bottle_step)
            write(asked.out, {"key_frames": {**figures, **how, "bottle_step": asked.bottle_step}})
        if "false_alarms" in parts:
            steps = {"stone_sign": asked.step, "bottle-detection": asked.bottle_step}
            write(asked.out, {"false_alarms": {**bench.false_alarms(videos, steps), **how}})
        if "tiger" in parts:
            shown_in = asked.shown_in or [int(number) for number in keys["tiger.mp4"]["frames"]]
            write(asked.out, {"tiger": {**bench.tiger(videos, shown_in), **how}})
    print(asked.out.read_text())


if __name__ == "__main__":
    main()
