"""What precision costs: token cosine, region IoU, mAP and mIoU of fp32, fp16, dynamic int8 and Q/DQ int8.

    python tools/compare_precisions.py ../shared/data/dev --cache FOLDER [--row VIT/CONVOLUTIONAL]… [--minutes 11]

The typed graphs that engines are built from run on ONNX Runtime's CPU over the whole data set, in the pipeline's own
place. One code space, trained at fp32, serves all rows, so that only precision differs; each row's pictures and queries
are described at that row's precisions. What is measured is the graph: ONNX Runtime's CPU computes fp16 operators in
float32 and rounds their results, a GPU rounds more. FOLDER (several GB) keeps what the networks gave, a file a picture:
a run that is out of its minutes ends with 3 and goes on where it was when it is started again.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from precision_outputs import OutOfTimeError, Outputs, Remembered, Row, over_pictures
from results_file import FOLDER, write

from edge_claid import ops
from edge_claid.config import Settings
from edge_claid.datasets import open_dataset
from edge_claid.datasets.dataset import Dataset
from edge_claid.engines.acceptance import best_ious
from edge_claid.evaluate.metrics import evaluate
from edge_claid.evaluate.run import enrol_dataset, image_ids, rank
from edge_claid.gallery.lookup.search import GallerySearch
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.training import own_views, trained_space
from edge_claid.records import Regions

ROWS = ("fp32/fp32", "dynamic int8/fp32", "fp16/fp16", "int8/fp32", "fp32/int8", "int8/int8", "fp8/fp32")
_SPACE_OF = Row("fp32", "fp32")


def nearness(outputs: Outputs, precision: str) -> dict[str, Any]:
    """How near tokens and regions at a precision of the ViT are to float32's, over all pictures."""

    def cosines(name: str, path: str) -> np.ndarray:
        a, b = outputs.features("fp32", path), outputs.features(name, path)
        return (a * b).sum(axis=1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)

    def overlaps(name: str, path: str) -> np.ndarray:
        return best_ious(outputs.regions("fp32", path), outputs.regions(name, path))

    cosine, worst = over_pictures(outputs, precision, cosines)
    overlap, _ = over_pictures(outputs, precision, overlaps)
    return {
        "pictures": len(outputs.paths),
        "token_cosine_mean": round(cosine, 5),
        "token_cosine_worst_picture": round(worst, 5),
        "region_iou": round(overlap, 4),
    }


def chance_iou(outputs: Outputs) -> float:
    """Region IoU of pictures that have nothing in common: each with the next one of its grid, at float32."""
    last: dict[tuple[int, int], Regions] = {}
    overlaps = []
    for path in outputs.paths:
        regions = outputs.regions("fp32", path)
        if regions.grid in last:
            overlaps.append(best_ious(last[regions.grid], regions))
        last[regions.grid] = regions
    return float(np.concatenate(overlaps).mean())


def descriptor_cosine(outputs: Outputs, row: Row) -> dict[str, Any]:
    """How near a row's descriptors are to float32's of the same regions, over all regions of all pictures."""
    cosines = []
    for path in outputs.paths:
        a, b = (outputs.described(one, path).descriptors.values for one in (Row(row.vit, "fp32"), row))
        cosines.append((a * b).sum(axis=1))
    every = np.concatenate(cosines)
    mean, least = float(every.mean()), float(every.min())
    return {"descriptor_cosine_mean": round(mean, 5), "descriptor_cosine_least": round(least, 4)}


def row_gallery(dataset: Dataset, outputs: Outputs, row: Row) -> Path:
    """A gallery of the data set at a row's precisions, with float descriptors and no code space; kept."""
    path = outputs.folder / f"{row.vit}-{row.convolutional}-{outputs.row_id(row)}.claid".replace(" ", "-")
    if path.is_file() and not holds(path, dataset):
        path.unlink()
    if not path.is_file():
        part = path.with_suffix(".part")
        part.unlink(missing_ok=True)
        with Gallery.open(part, "create") as gallery:
            enrol_dataset(dataset, Remembered(outputs, row), gallery)
        part.rename(path)
    return path


def holds(path: Path, dataset: Dataset) -> bool:
    """Whether a gallery is of the data set where it lies now; of one that was moved, no picture would be found."""
    with Gallery.open(path) as gallery:
        return bool(image_ids(dataset, gallery))


def code_space(dataset: Dataset, outputs: Outputs, settings: Settings) -> Any:
    """The code space of all rows, trained at fp32 on the gallery's own views as an enrolment does; kept."""
    scatter = outputs.folder / "views.npy"
    with Gallery.open(row_gallery(dataset, outputs, _SPACE_OF)) as gallery:
        if not scatter.is_file():
            with outputs.float32 as pipeline:
                within = own_views(gallery, settings.codes, pipeline)
            assert within is not None, "none of the pictures can be read any more"
            np.save(scatter, within)
        return trained_space(gallery, settings.codes, None, np.load(scatter, allow_pickle=False))


def retrieval(dataset: Dataset, outputs: Outputs, row: Row, space: Any) -> dict[str, Any]:
    """mAP and mIoU of a row, by float descriptors and by codes."""
    settings, found = Settings(), {}
    with tempfile.TemporaryDirectory(dir=outputs.folder) as scratch:
        copy = Path(scratch) / "copy.claid"
        shutil.copy(row_gallery(dataset, outputs, row), copy)
        with Gallery.open(copy, "rw") as gallery:
            gallery.adopt_space(space, keep_descriptors=True)
            ids, asked = image_ids(dataset, gallery), outputs.queries(row.convolutional)
            for name, exact in (("float", True), (f"{settings.codes.bytes} bytes", False)):
                search = GallerySearch(gallery, ops.load().code_scan, settings.search, exact=exact)
                report = evaluate(dataset, rank(dataset.queries, asked, search, ids))["all"]
                found[name] = {key: round(float(report[key] or 0), 4) for key in ("mAP", "mIoU")}
            info = gallery.info()
    return found | {"regions_per_image": round(info.regions / max(info.images, 1), 1), "queries": len(asked)}


def measure_tokens(outputs: Outputs, vits: Sequence[str], out: Path) -> None:
    """Tokens and regions at each precision of the ViT, into the results file."""
    for vit in vits:
        outputs.find_regions(vit)
        part = nearness(outputs, vit)
        if vit == "fp32":
            part["region_iou_by_chance"] = round(chance_iou(outputs), 4)
        write(out, {f"tokens at {vit}": part | {"pipeline": outputs.float32.id}})
        print(vit, part, flush=True)


def measure_retrieval(dataset: Dataset, outputs: Outputs, rows: Sequence[Row], out: Path) -> None:
    """Each row into the results file once its descriptors are there; a picture is looked at once for all ViTs."""
    space = None
    for precision in dict.fromkeys([_SPACE_OF.convolutional, *(row.convolutional for row in rows)]):
        alike = [row for row in rows if row.convolutional == precision]
        vits = [row.vit for row in {_SPACE_OF, *rows} if row.convolutional == precision]
        outputs.find_descriptors(precision, vits)
        space = space or code_space(dataset, outputs, Settings())
        for row in alike:
            part = retrieval(dataset, outputs, row, space)
            if row.vit == "fp32":
                part |= descriptor_cosine(outputs, row)
            write(out, {f"retrieval at {row.vit}/{row.convolutional}": part | {"pipeline": outputs.float32.id}})
            print(row, part, flush=True)


def main() -> None:
    """Measure what time allows, and write every row that is whole."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--row", action="append", help=f"of {', '.join(ROWS)}, or others")
    parser.add_argument("--pictures", type=int, help="so many, spread over the data set, for tokens and regions only")
    parser.add_argument("--minutes", type=float, default=11.0)
    parser.add_argument("--out", type=Path, default=FOLDER / "precision.json")
    chosen = parser.parse_args()
    dataset, rows = open_dataset(chosen.dataset), [Row.of(name) for name in chosen.row or ROWS]
    outputs = Outputs(dataset, chosen.cache, chosen.minutes * 60, chosen.pictures)
    try:
        measure_tokens(outputs, list(dict.fromkeys(["fp32", *(row.vit for row in rows)])), chosen.out)
        if not chosen.pictures:
            measure_retrieval(dataset, outputs, rows, chosen.out)
    except OutOfTimeError:
        sys.exit(3)


if __name__ == "__main__":
    main()
