"""Is `match` right? Said probability against how often it is true, on annotated queries.

    python tools/reliability.py ../shared/data/dev GALLERY.claid [--out benchmarks/results/reliability.json]

GALLERY holds the pictures of DEV (`edge-claid enroll DEV/images --gallery GALLERY`). Every query is asked twice: with
its own picture left out, so its best hit may be right, and with every picture that shows its instance left out, so its
best hit is wrong: even odds that the thing is there. Writes the figures, and a plot (PNG) beside them.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from results_file import FOLDER, environment

from edge_claid import ops
from edge_claid.drawing import save_picture, write_text
from edge_claid.gallery.lookup.calibrate import keep_calibrated
from edge_claid.gallery.lookup.search import GallerySearch
from edge_claid.gallery.store import Gallery
from edge_claid.pipeline import Pipeline

BINS = 8
SIDE, MARGIN = 420, 60  # pixels of the plot's square and around it


def answered(dev: Path, gallery: Gallery, pipeline: Pipeline) -> tuple[np.ndarray, np.ndarray]:
    """(n,) said probabilities of best hits, and (n,) bool whether they were right."""
    truth = json.loads((dev / "gt.json").read_text())
    file_of = {image["id"]: image["file"] for image in truth["images"]}
    scan = ops.load().code_scan
    keep_calibrated(gallery, scan, pipeline)
    search = GallerySearch(gallery, scan)
    id_of = {Path(row.path).name: row.id for row in gallery.images()}
    everything = set(id_of.values())

    def ids_of(images: set[str]) -> set[int]:
        return {id_of[name] for name in (Path(file_of[image]).name for image in images) if name in id_of}

    said, right = [], []
    for query in truth["queries"]:
        descriptors = pipeline.describe(str(dev / file_of[query["image"]]), box=query["box"])
        entries = truth["truth"][query["id"]]
        counted = {entry["image"] for entry in entries if not entry.get("ignore")}
        shown = ids_of(counted)
        ignored = ids_of({entry["image"] for entry in entries} - counted) | ids_of({query["image"]})
        for left_out in (ignored, ignored | shown):
            hits = search.query(descriptors, 1, only=everything - left_out)
            if hits and hits[0].match is not None:
                said.append(hits[0].match)
                right.append(id_of[Path(hits[0].image).name] in shown)
    return np.array(said), np.array(right, bool)


def bins_of(said: np.ndarray, right: np.ndarray) -> list[dict[str, float]]:
    """Groups of equal size, from least to most sure."""
    groups = np.array_split(np.argsort(said, kind="stable"), BINS)
    return [
        {"said": round(float(said[g].mean()), 4), "true": round(float(right[g].mean()), 4), "answers": len(g)}
        for g in groups
        if len(g)
    ]


def plotted(bins: list[dict[str, float]]) -> np.ndarray:
    """Said against true, the diagonal where they agree; (H, W, 3) uint8 RGB."""
    canvas = np.full((SIDE + 2 * MARGIN, SIDE + 2 * MARGIN, 3), 255, np.uint8)

    def place(said: float, true: float) -> tuple[int, int]:
        return MARGIN + round(said * SIDE), MARGIN + round((1 - true) * SIDE)

    cv2.rectangle(canvas, place(0, 1), place(1, 0), (60, 60, 60), 1)
    cv2.line(canvas, place(0, 0), place(1, 1), (180, 180, 180), 1, cv2.LINE_AA)
    points = [place(one["said"], one["true"]) for one in bins]
    for start, stop in pairwise(points):
        cv2.line(canvas, start, stop, (40, 90, 230), 2, cv2.LINE_AA)
    for point in points:
        cv2.circle(canvas, point, 5, (40, 90, 230), -1, cv2.LINE_AA)
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        write_text(canvas, f"{value:g}", (place(value, 0)[0] - 10, MARGIN + SIDE + 22), (60, 60, 60), 0.45)
        write_text(canvas, f"{value:g}", (18, place(0, value)[1] + 5), (60, 60, 60), 0.45)
    write_text(canvas, "said: match of the best hit", (MARGIN + 90, MARGIN + SIDE + 46), (20, 20, 20), 0.5)
    write_text(canvas, "true: share of these hits that show the thing", (MARGIN, MARGIN - 16), (20, 20, 20), 0.5)
    return canvas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dev", type=Path)
    parser.add_argument("gallery", type=Path)
    parser.add_argument("--out", type=Path, default=FOLDER / "reliability.json")
    asked = parser.parse_args()
    with Pipeline.open() as pipeline, Gallery.open(asked.gallery, "rw") as gallery:
        gallery.require_pipeline(pipeline.id, pipeline.describe_settings)
        said, right = answered(asked.dev, gallery, pipeline)
    bins = bins_of(said, right)
    error = sum(abs(one["said"] - one["true"]) * one["answers"] for one in bins) / max(len(said), 1)
    brier = float(np.mean((said - right) ** 2)) if len(said) else None
    result = {
        "pipeline": pipeline.id,
        "answers": len(said),
        "expected_calibration_error": round(error, 4),
        "brier": brier,
        "bins": bins,
    }
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps({**result, **environment()}, indent=1) + "\n")
    save_picture(asked.out.with_suffix(".png"), plotted(bins))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
