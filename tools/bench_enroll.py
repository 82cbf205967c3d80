"""Speed and memory of enrolment, and where the time goes.

    python tools/bench_enroll.py FOLDER [--limit 200] [--out FILE] [--json]

Enrols pictures of a folder into a temporary gallery in a process of its own, without training codes, then times each
stage on its own in the same run. ``ratio_to_networks`` is the rate over what the two networks alone reach with the same
number of threads on the same pictures, half of them before and half after the enrolment, so that a machine whose speed
drifts treats both alike: 1 means that nothing but the networks costs time. ``cpu_ratio_to_networks`` is the same of the
process's CPU seconds, which hang less on what else runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import onnxruntime

from edge_claid.frames import open_source
from edge_claid.frames.folder import PictureFiles
from edge_claid.frames.reading import read_picture
from edge_claid.gallery.enrolment.enroll import EnrollOptions, enroll
from edge_claid.gallery.store import Gallery
from edge_claid.pipeline import Pipeline
from edge_claid.records import Frame
from edge_claid.runners.onnx_runner import usable_cores

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"


def enrolment(pipeline: Pipeline, paths: list[str]) -> dict[str, float]:
    """Images a second from files to committed rows, and this process's peak memory after it."""
    source = PictureFiles("bench", os.path.commonpath([os.path.dirname(path) for path in paths]), paths)
    with tempfile.TemporaryDirectory() as folder, Gallery.open(Path(folder) / "bench.claid", "create") as gallery:
        start, spent = time.perf_counter(), time.process_time()
        summary = enroll(gallery, [source], pipeline, EnrollOptions())
        seconds, spent = time.perf_counter() - start, time.process_time() - spent
        regions = gallery.info().regions
    added = summary.counts["added"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "images": added,
        "images_per_second": added / seconds,
        "cpu_seconds_per_image": spent / added,
        "regions_per_image": regions / added,
        "peak_mb": peak,
    }


def networks_alone(pipeline: Pipeline, paths: list[str], threads: int) -> tuple[float, float]:
    """Seconds of the two networks for pictures that are decoded already, by the clock and of CPU time."""
    frames = [read_picture(path) for path in paths]
    with ThreadPoolExecutor(threads) as pool:
        start, spent = time.perf_counter(), time.process_time()
        for future in [pool.submit(run, pipeline, frame) for frame in frames]:
            future.result()
        return time.perf_counter() - start, time.process_time() - spent


def run(pipeline: Pipeline, frame: Frame) -> None:
    """Both networks; what they give is let go at once, or it would be this benchmark's memory that is measured."""
    pipeline.tokens(frame)
    pipeline.feature_map(frame)


def stages(pipeline: Pipeline, paths: list[str]) -> dict[str, float]:
    """Mean milliseconds a picture of each stage, one thread."""
    totals: dict[str, float] = {}

    def timed(name: str, work: Any) -> Any:
        start = time.perf_counter()
        result = work()
        totals[name] = totals.get(name, 0.0) + time.perf_counter() - start
        return result

    for path in paths:
        frame = timed("decode", lambda path=path: read_picture(path))
        tokens = timed("resize, ViT", lambda frame=frame: pipeline.tokens(frame))
        regions = timed("regions", lambda tokens=tokens: pipeline.detect(tokens))
        found = timed("resize, convolutional network", lambda frame=frame: pipeline.feature_map(frame))
        timed("pooling", lambda found=found, regions=regions: pipeline.pool(found, regions))
    return {name: seconds / len(paths) * 1000 for name, seconds in totals.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--out", type=Path, default=RESULTS / "enroll.json")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with open_source(str(arguments.folder)) as source:
        every = [file.path for file in source.files() if not file.problem and file.picture_by_name]
    paths = every[:: max(1, len(every) // arguments.limit)][: arguments.limit]
    with Pipeline.open() as pipeline:
        pipeline.describe_regions(read_picture(paths[0]))
        before = networks_alone(pipeline, paths[::2], usable_cores())
        result: dict[str, Any] = enrolment(pipeline, paths)
        after = networks_alone(pipeline, paths[1::2], usable_cores())
        alone = len(paths) / (before[0] + after[0])
        result["cpu_ratio_to_networks"] = (before[1] + after[1]) / len(paths) / result["cpu_seconds_per_image"]
        result["networks_alone_per_second"] = alone
        result["ratio_to_networks"] = result["images_per_second"] / alone
        result["stage_ms"] = stages(pipeline, paths[:40])
        result["settings"] = {
            "vit_side": pipeline.settings.networks.vit_side,
            "descriptor_side": pipeline.settings.networks.descriptor_side,
        }
    result |= {
        "threads": usable_cores(),
        "machine": platform.processor() or platform.machine(),
        "onnxruntime": onnxruntime.__version__,
        "date": date.today().isoformat(),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result) if arguments.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
