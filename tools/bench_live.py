"""The live look-up on real clips: frames confirmed, key frames, time to find again, wrong confirmations, speed.

    python tools/bench_live.py ../shared/data --work WORK [--step 1] [--distractors 0] [--sides 224 --sides 336 …]

The gallery holds the pictures of data/dev without the clip's own (their labels from gt.json), and, one at a time, cut-
outs of the clip's object. Needs about twenty minutes on two cores; galleries, and what the networks saw in each frame,
are kept in WORK for the next run. Writes benchmarks/results/live.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from live_clips import Camera, RememberingLooker, answers, boxes_of, clip_figures, frames_of, medians, seconds_to_return
from results_file import write

from edge_claid import ops
from edge_claid.api import Gallery
from edge_claid.live import Lookup, PipelineLooker, Recogniser, Threshold, WatchedGallery
from edge_claid.live.targets import finder_of, target_from_picture
from edge_claid.pipeline import Pipeline
from edge_claid.records import Frame
from edge_claid.runners.onnx_runner import usable_cores

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"
TRUTH = Path(__file__).with_name("live_truth.json")
PARTS = ("speed", "key_frames", "finer", "false_alarms", "tiger")
FINER = 672  # pixels squared that the ViT sees in the part of this name


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


class Bench:
    """Everything a measurement needs, opened once."""

    def __init__(self, pipeline: Pipeline, gallery: Path, work: Path, step: int, side: int | None = None) -> None:
        self.pipeline, self.gallery, self.work, self.step = pipeline, gallery, work, step
        self.settings = pipeline.settings.live
        self.looker = RememberingLooker(PipelineLooker(pipeline, side), work / f"looks-{pipeline.id}-{side or 'usual'}")
        self.threshold = Threshold.of(self.settings)

    def find(self, clip: Path, frame: Frame, box: list[float] | None, step: int) -> list:
        """Answers with the object shown in a box of a picture."""
        with WatchedGallery(str(self.gallery), self.pipeline, ops.load().code_scan) as watched:
            watched.wait_measured()
            target = target_from_picture(self.pipeline, frame, box, "object")
            namer = finder_of([target], self.settings, self.threshold)
            return answers(clip, step, self.looker, watched, namer, self.settings)

    def recognise(self, clip: Path, gallery: Path, step: int, rate: float | None = None) -> list:
        """Answers with every region looked up in a gallery."""
        with WatchedGallery(str(gallery), self.pipeline, ops.load().code_scan) as watched:
            watched.wait_measured()
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
        return {way: {**medians(list(each.values())), "shown_in_frame": each} for way, each in ways.items()}

    def false_alarms(self, videos: Path, steps: dict[str, int]) -> dict[str, Any]:
        """Confirmations a minute on footage with nothing of the gallery in it, by the rate that was asked for."""
        found: dict[str, Any] = {}
        for rate in (None, 60.0, 1.0):
            name = "default" if rate is None else f"{rate:g} an hour"
            found[name] = {}
            for clip, step in steps.items():
                run = self.recognise(videos / f"{clip}.mp4", self.gallery, step, rate)
                figures = clip_figures(run, "", {})
                found[name][clip] = {key: figures[key] for key in ("wrong_tracks_per_minute", "frames")}
        return found

    def key_frames(self, clip: Path, box: list[float], truth: dict[str, Any], returns: dict, step: int) -> dict:
        """A clip of which some frames are annotated; the object is shown in its first frame."""
        found = self.find(clip, frames_of(clip, [0])[0], box, step)
        boxes = {int(number): boxes_of(value) for number, value in truth.items()}
        nearest = {min((n for n, _, _ in found), key=lambda n, wanted=wanted: abs(n - wanted)): value
                   for wanted, value in boxes.items()}  # fmt: skip
        figures = clip_figures(found, "object", nearest)
        return {**figures, "key_frames": len(nearest), "seconds_to_return": seconds_to_return(found, "object", returns)}


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


def options() -> argparse.Namespace:
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
    return parser.parse_args()


def main() -> None:
    asked = options()
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
        stone, bottle = keys["stone_sign.mp4"]["frames"], own["bottle-detection.mp4"]
        sign = (videos / "stone_sign.mp4", stone["0"], stone, own["stone_sign.mp4"]["returns"], asked.step)
        if "finer" in parts:
            figures = Bench(pipeline, gallery, asked.work, asked.step, FINER).key_frames(*sign)
            write(asked.out, {"finer": {"stone_sign": figures, "vit_side": FINER, **how}})
        if "key_frames" in parts:
            figures = {"stone_sign": bench.key_frames(*sign)}
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
