"""Instance-160 and Instance-335: ``Images/CLASS/NAME.jpg`` and one file of boxes per class.

Source: CLAID §V, and the layout as the group's public evaluation programs read it: ``bbox/CLASS.txt`` (Instance-160)
or ``merge_bbox/CLASS.txt`` (Instance-335), a line ``NAME x y width height`` for every picture of the class, NAME
without extension. The first line is the class's query, so there are as many queries as classes (CLAID Tab. II: 160
and 335). Pictures come from tracking clips.
"""

from __future__ import annotations

from pathlib import Path

from edge_claid.datasets.dataset import Dataset, Query, Truth
from edge_claid.datasets.files import box_from_corner_and_size, dataset_images, lines, pictures_by_stem
from edge_claid.errors import UsageError

BOXES = ("merge_bbox", "bbox")


def recognises(folder: Path) -> bool:
    """Whether the pictures and a folder of boxes are there."""
    return (folder / "Images").is_dir() and any((folder / name).is_dir() for name in BOXES)


def read(folder: Path) -> Dataset:
    """Read the dataset; UsageError where a file is missing or damaged."""
    boxes = next(folder / name for name in BOXES if (folder / name).is_dir())
    queries, truth = [], {}
    for file in sorted(boxes.rglob("*.txt")):
        occurrences = tuple(Truth(name, box_from_corner_and_size(box, file)) for name, *box in lines(file))
        if not occurrences:
            raise UsageError(f"{file}: is empty; fetch the dataset anew")
        first = occurrences[0]
        queries.append(Query(file.stem, first.image, None if first.box is None else (first.box,)))
        truth[file.stem] = occurrences
    images = dataset_images(pictures_by_stem(folder / "Images"))
    return Dataset(folder.resolve().name, images, tuple(queries), truth)
