"""Does the integer decomposition find as well as the authors' float rules? mAP and mIoU on one dataset.

    python tools/compare_decompositions.py DATASET [--seeds 2]

Networks run once a picture; then the same tokens go through the integer decomposition (the default), its rules in
floats in the same visiting order, and the released program's rules with shuffles from several seeds. Each set of
regions is described, whitened and searched with float descriptors, without views, so that nothing else differs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from edge_claid import ops
from edge_claid.codes.space import train_space
from edge_claid.datasets import open_dataset
from edge_claid.datasets.dataset import Dataset
from edge_claid.evaluate.metrics import evaluate
from edge_claid.evaluate.run import describe_queries, enrol_dataset, image_ids, rank
from edge_claid.gallery.lookup.search import GallerySearch
from edge_claid.gallery.store import Gallery
from edge_claid.ops.cpu.decomposition_op import decompose_float
from edge_claid.pipeline import Pipeline
from edge_claid.records import Described, Frame
from edge_claid.regions.claid import ClaidDetector

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"


class Variant:
    """One arithmetic, as enrolment sees a pipeline: it looks up what was described before."""

    def __init__(self, name: str, pipeline: Pipeline, described: dict[bytes, Described]) -> None:
        self.id, self.describe_settings, self.descriptor_dim = name, {"decomposition": name}, pipeline.descriptor_dim
        self._described = described

    def describe_many(self, frames: Any) -> Iterator[Described]:
        for frame in frames:
            yield self._described[fingerprint(frame)]


def fingerprint(frame: Frame) -> bytes:
    return frame.pixels[:: max(1, len(frame.pixels) // 16)].tobytes()


def described_by_all(
    pipeline: Pipeline, detectors: dict[str, ClaidDetector], dataset: Dataset
) -> dict[str, dict[bytes, Described]]:
    """Every picture through the networks once and through every detector."""
    from edge_claid.frames.reading import read_picture

    def describe(path: str) -> tuple[bytes, dict[str, Described]]:
        frame = read_picture(path)
        tokens, feature_map = pipeline.tokens(frame), pipeline.feature_map(frame)
        found = {name: detector.detect(tokens) for name, detector in detectors.items()}
        return fingerprint(frame), {n: Described(r, pipeline.pool(feature_map, r)) for n, r in found.items()}

    results: dict[str, dict[bytes, Described]] = {name: {} for name in detectors}
    with ThreadPoolExecutor(2) as pool:
        for key, described in pool.map(describe, [str(image.path) for image in dataset.images if image.searched]):
            for name, value in described.items():
                results[name][key] = value
    return results


def figures(dataset: Dataset, pipeline: Pipeline, variant: Variant, queries: Any) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder, Gallery.open(Path(folder) / "g.claid", "create") as gallery:
        enrol_dataset(dataset, variant, gallery)
        descriptors, parts = gallery.descriptors(40_000), gallery.descriptor_parts
        gallery.adopt_space(train_space(descriptors, pipeline.settings.codes, parts=parts), keep_descriptors=True)
        search = GallerySearch(gallery, ops.load().code_scan, pipeline.settings.search, exact=True)
        report = evaluate(dataset, rank(dataset.queries, queries, search, image_ids(dataset, gallery)))
        info = gallery.info()
    return {"mAP": report["all"]["mAP"], "mIoU": report["all"]["mIoU"], "regions_per_image": info.regions / info.images}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    dataset = open_dataset(arguments.dataset)
    with Pipeline.open() as pipeline:
        ways = {"integers (default)": ops.load().decompose, "floats, same order": decompose_float}
        for seed in range(arguments.seeds):
            ways[f"released rules, seed {seed}"] = partial(decompose_float, released=True, shuffle_seed=seed)
        detectors = {name: pipeline.detector_with(way) for name, way in ways.items()}
        described = described_by_all(pipeline, detectors, dataset)
        queries = describe_queries(dataset, pipeline)
        rows = {n: figures(dataset, pipeline, Variant(n, pipeline, described[n]), queries) for n in detectors}
    result = {"dataset": dataset.name, "date": date.today().isoformat(), "rows": rows}
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "decomposition_quality.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
