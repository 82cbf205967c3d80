"""The tables that choose the default settings: one setting at a time varied about the defaults, mAP and mIoU of each.

    python tools/choose_settings.py ../shared/data/dev --cache FOLDER [--choice alpha --choice tau1 …]

Every row is the product's own figure: pictures enrolled, queries described, code space trained, all ranked; with float
descriptors and with codes of the default length, overall and by source. FOLDER keeps tokens, galleries and scatters
between runs, so that a row costs only what its setting changes; it may be deleted at any time. The tables go into
benchmarks/results/choices.json beside the tables that are there already; a table of the same name is replaced.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from edge_claid import ops
from edge_claid.config import Settings
from edge_claid.datasets import open_dataset
from edge_claid.datasets.dataset import Dataset
from edge_claid.evaluate.metrics import evaluate
from edge_claid.evaluate.run import describe_queries, enrol_dataset, image_ids, rank
from edge_claid.frames.reading import read_picture
from edge_claid.gallery.lookup.search import GallerySearch
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.training import own_views, trained_space
from edge_claid.pipeline import Pipeline
from edge_claid.records import Descriptors, Frame, Tokens

OUT = Path(__file__).resolve().parent.parent / "benchmarks" / "results" / "choices.json"
DEFAULTS = Settings()

# Describes a query: pipeline, picture, box -> one descriptor.
Treatment = Callable[[Pipeline, Frame, tuple[float, ...]], Descriptors]


class RememberingPipeline(Pipeline):
    """A pipeline that keeps tokens in a folder: settings of regions and descriptors vary over the same tokens."""

    folder: Path

    def tokens(self, frame: Frame, side: int | None = None) -> Tokens:
        networks = self.settings.networks
        key = hashlib.blake2b(frame.pixels.tobytes(), digest_size=12).hexdigest()
        name = f"{networks.vit}-{networks.vit_variant}-{networks.token_layer}-{side or networks.vit_side}-{key}.npz"
        path = self.folder / name
        if not path.is_file():
            tokens = super().tokens(frame, side)
            np.savez(path.with_suffix(".part.npz"), features=tokens.features.astype(np.float16), grid=tokens.grid)
            path.with_suffix(".part.npz").replace(path)
        with np.load(path, allow_pickle=False) as kept:
            rows, columns = (int(size) for size in kept["grid"])
            return Tokens(kept["features"].astype(np.float32), (rows, columns), frame.size)


def in_its_picture(pipeline: Pipeline, frame: Frame, box: tuple[float, ...]) -> Descriptors:
    return pipeline.describe(frame, box)


def cut_out(pipeline: Pipeline, frame: Frame, box: tuple[float, ...]) -> Descriptors:
    x0, y0, x1, y1 = (round(value) for value in box)
    return pipeline.describe(Frame(np.ascontiguousarray(frame.pixels[y0:y1, x0:x1]), frame.name))


def box_varied(pipeline: Pipeline, frame: Frame, box: tuple[float, ...]) -> Descriptors:
    """The mean over the box, one 15 % smaller and one 15 % larger on every side."""
    x0, y0, x1, y1 = box
    width, height = x1 - x0, y1 - y0
    boxes = [(x0 - s * width, y0 - s * height, x1 + s * width, y1 + s * height) for s in (0.0, -0.15, 0.15)]
    found = pipeline.describe(frame, boxes=boxes)
    mean = found.values.mean(axis=0, keepdims=True)
    return Descriptors(mean / np.linalg.norm(mean), None if found.aspects is None else found.aspects[:1])


def without_shape(pipeline: Pipeline, frame: Frame, box: tuple[float, ...]) -> Descriptors:
    return Descriptors(pipeline.describe(frame, box).values)


@dataclass(frozen=True)
class Row:
    """One row: what is called how, and what differs from the defaults."""

    name: str
    settings: Settings = DEFAULTS
    treatment: Treatment = in_its_picture


def varied(part: str, setting: str, values: Sequence[Any]) -> list[Row]:
    """Rows that differ in one setting."""
    tables = getattr(DEFAULTS, part)
    return [
        Row(f"{setting} {value}", replace(DEFAULTS, **{part: replace(tables, **{setting: value})})) for value in values
    ]


def of_maps() -> list[Row]:
    shares = ((0.0, 0.0), (1.0, 0.0), (0.5, 0.3), (1.0, 0.5), (1.0, 1.0), (2.0, 1.0))
    described = ((s, replace(DEFAULTS.descriptors, share_16=s[0], share_8=s[1])) for s in shares)
    return [Row(f"stride 16 at {s[0]}, 8 at {s[1]}", replace(DEFAULTS, descriptors=d)) for s, d in described]


# To add a choice: its name and its rows here.
CHOICES: dict[str, list[Row]] = {
    "token layer": varied("networks", "token_layer", (7, 8, 9, -1)),
    "centring": varied("regions", "center", (True, False)),
    "alpha": varied("regions", "alpha", (0.2, 0.25, 0.3)),
    "tau1": varied("regions", "tau1", (0.97, 0.99)),
    "tau2": varied("regions", "tau2", (-1.0, 0.1, 0.3)),
    "smallest region": varied("regions", "smallest", (5, 8, 15)),
    "pooling": [
        *varied("descriptors", "power", (1.0, 3.0, 5.0, float("inf"))),
        *varied("descriptors", "mask", (True,)),
    ],
    "margin": varied("descriptors", "margin", (0.0, 0.04, 0.08, 0.12)),
    "maps": of_maps(),
    "whitening width": varied("codes", "width", (128, 192, 256, 512)),
    "whitening exponent": varied("codes", "whitening", (0.25, 0.5, 0.75)),
    "views": varied("codes", "views", (0, 32, 64)),
    "input of the token network": varied("networks", "vit_side", (392, 448, 518)),
    "input of the descriptor network": varied("networks", "descriptor_side", (640, 896)),
    "query": [
        Row("in its picture"),
        Row("cut out and described alone", treatment=cut_out),
        Row("mean over three boxes", treatment=box_varied),
        Row("in its picture, shape not used", treatment=without_shape),
    ],
}


def figures(dataset: Dataset, row: Row, cache: Path) -> dict[str, Any]:
    """One row of a table."""
    pipeline = RememberingPipeline.open(row.settings)
    assert isinstance(pipeline, RememberingPipeline)
    pipeline.folder = cache / "tokens"
    os.makedirs(pipeline.folder, exist_ok=True)
    codes = row.settings.codes
    with pipeline, tempfile.TemporaryDirectory(dir=cache) as folder:
        kept = cache / f"{dataset.name}-{pipeline.id}.claid"
        with Gallery.open(kept, "create") as gallery:
            enrol_dataset(dataset, pipeline, gallery)
            within = scatter(kept.with_suffix(f".{codes.views}.npy"), gallery, row.settings, pipeline)
        shutil.copy(kept, Path(folder) / "copy.claid")
        described = describe_queries(dataset, Treated(pipeline, row.treatment))
        with Gallery.open(Path(folder) / "copy.claid", "rw") as gallery:
            gallery.adopt_space(trained_space(gallery, codes, None, within), keep_descriptors=True)
            ids, found = image_ids(dataset, gallery), {}
            for name, exact in (("float", True), (f"{codes.bytes} bytes", False)):
                search = GallerySearch(gallery, ops.load().code_scan, row.settings.search, exact=exact)
                report = evaluate(dataset, rank(dataset.queries, described, search, ids))
                found[name] = {source: {key: own[key] for key in ("mAP", "mIoU")} for source, own in report.items()}
            info = gallery.info()
    return {"row": row.name, "regions_per_image": round(info.regions / max(info.images, 1), 1), **found}


class Treated:
    """Describes queries by a treatment of their picture and box."""

    def __init__(self, pipeline: Pipeline, treatment: Treatment) -> None:
        self._pipeline, self._treatment = pipeline, treatment

    def describe(self, image: Any, box: Any = None, *, boxes: Any = None) -> Descriptors:
        if boxes is None or len(boxes) != 1:
            return self._pipeline.describe(image, box, boxes=boxes)
        width, height = (frame := read_picture(os.fspath(image))).size
        x0, y0, x1, y1 = boxes[0]
        return self._treatment(self._pipeline, frame, (max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)))


def scatter(path: Path, gallery: Gallery, settings: Settings, pipeline: Pipeline) -> np.ndarray | None:
    """What the gallery's own views say, kept in a file."""
    if not settings.codes.views:
        return None
    if not path.is_file():
        within = own_views(gallery, settings.codes, pipeline)
        if within is None:
            return None
        np.save(path, within)
    return np.load(path, allow_pickle=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--choice", action="append", choices=list(CHOICES))
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    dataset = open_dataset(options.dataset)
    for choice in options.choice or CHOICES:
        rows = []
        for row in CHOICES[choice]:
            rows.append(figures(dataset, row, options.cache))
            print(choice, json.dumps(rows[-1]), flush=True)
        tables = json.loads(options.out.read_text()) if options.out.is_file() else {}
        tables[choice] = {"date": date.today().isoformat(), "dataset": dataset.name, "rows": rows}
        options.out.write_text(json.dumps(tables, indent=1) + "\n")


if __name__ == "__main__":
    main()
