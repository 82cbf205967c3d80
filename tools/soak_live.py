"""A long live run: memory, threads and open files, sampled while a clip is played again and again.

    python tools/soak_live.py CLIP GALLERY.claid [--minutes 30] [--vit-side 112] [--rate 5]

Passes where memory never grows by more than 3 % over what it was after the first minute (the system may take some
back), and no thread or file is left over.
Writes benchmarks/results/soak.json; exit 6 where it fails.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from results_file import FOLDER, environment

from edge_claid import ops
from edge_claid.frames import open_stream
from edge_claid.live import Lookup, PipelineLooker, Recogniser, Threshold, WatchedGallery
from edge_claid.live.json_lines import JsonLines
from edge_claid.pipeline import Pipeline
from edge_claid.records import SourceEvent, TimedFrame

MOST_GROWTH = 0.03


class LoopedClip:
    """A clip decoded from its file again and again, so many frames a second, as one endless live source."""

    live, dropped = True, 0

    def __init__(self, path: Path, rate: float, seconds: float) -> None:
        self._path, self._rate = path, rate
        self._end, self._due = time.monotonic() + seconds, time.monotonic()
        self._number, self._stream = 0, None  # type: tuple[int, Stream | None]

    def read(self, timeout: float | None = None) -> TimedFrame | SourceEvent | None:
        if time.monotonic() > self._end:
            self._close()
            return SourceEvent("ended", time.time())
        time.sleep(max(0.0, self._due - time.monotonic()))
        self._due = max(self._due + 1 / self._rate, time.monotonic())
        if self._stream is None:
            self._stream = open_stream(self._path)
            self._stream.__enter__()
        found = self._stream.read(timeout)
        if not isinstance(found, TimedFrame):
            self._close()
            return None
        self._number += 1
        return replace(found, number=self._number, time=time.time(), captured=time.monotonic())

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.__exit__(None, None, None)
            self._stream = None


class Forgotten(io.TextIOBase):
    """A text stream that keeps nothing."""

    def write(self, text: str) -> int:
        return len(text)


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def sample() -> dict[str, int]:
    """What must not grow."""
    return {"rss": resident_bytes(), "threads": threading.active_count(), "files": len(os.listdir("/proc/self/fd"))}


def watched_run(clip: Path, gallery: Path, seconds: float, side: int, rate: float, every: float) -> dict:
    """Samples (second, rss, threads, files) of one run, and what is left after it."""
    samples: list[dict] = []
    with Pipeline.open() as pipeline, WatchedGallery(str(gallery), pipeline, ops.load().code_scan) as watched:
        before = sample()
        settings = pipeline.settings.live
        namer = Recogniser(settings, Threshold.of(settings))
        source, sink = LoopedClip(clip, rate, seconds), JsonLines(Forgotten())
        lookup = Lookup(source, PipelineLooker(pipeline, side), watched, namer, settings, [sink], workers=1)
        start = time.monotonic()
        lookup.start()
        while not lookup.wait(every):
            samples.append({"second": round(time.monotonic() - start, 1), **sample()})
        lookup.stop()
        after = sample()
    return {"samples": samples, "before": before, "after": after, "summary": lookup.metrics.summary()}


def judged(run: dict, settle: float) -> dict:
    """Growth of memory from the median around the end of the first minute to that of the last minute."""
    early = [s["rss"] for s in run["samples"] if settle <= s["second"] <= 2 * settle]
    late = [s["rss"] for s in run["samples"][-len(early) :]]
    later = [s for s in run["samples"] if s["second"] >= settle]
    growth = float(np.median(late) / np.median(early) - 1)
    return {
        "rss_growth": round(growth, 5),
        "rss_mb": round(float(np.median(late)) / 1e6, 1),
        "largest_over_early": round(max(s["rss"] for s in later) / float(np.median(early)) - 1, 5),
        "threads_left": run["after"]["threads"] - run["before"]["threads"],
        "files_left": run["after"]["files"] - run["before"]["files"],
        "threads_while_running": sorted({s["threads"] for s in later}),
        "files_while_running": sorted({s["files"] for s in later}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("gallery", type=Path)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--vit-side", type=int, default=112)
    parser.add_argument("--rate", type=float, default=5.0, help="frames a second of the camera")
    parser.add_argument("--out", type=Path, default=FOLDER / "soak.json")
    asked = parser.parse_args()
    settle = min(60.0, asked.minutes * 60 / 5)
    run = watched_run(asked.clip, asked.gallery, asked.minutes * 60, asked.vit_side, asked.rate, settle / 12)
    result = {**judged(run, settle), "minutes": asked.minutes, "clip": asked.clip.name, "vit_side": asked.vit_side}
    result |= {"summary": run["summary"], **environment()}
    grown = max(result["rss_growth"], result["largest_over_early"])
    result["passed"] = grown <= MOST_GROWTH and not result["threads_left"] and not result["files_left"]
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    sys.exit(0 if result["passed"] else 6)


if __name__ == "__main__":
    main()
