"""INSTRE: ``INSTRE-S1/01a_canada_book/001.jpg`` with ``001.txt`` of boxes beside it; ``INSTRE-S2``; ``INSTRE-M/01/``.

Source: Wang and Jiang, "INSTRE: a new benchmark for instance-level object retrieval and recognition", ACM TOMM 2015,
and its page. A line of a box file is ``x y width height``. A picture of INSTRE-M class 01 shows two objects, 01a and
01b of INSTRE-S1: its first line is a's box, the second b's.
Protocol: Iscen et al., "Efficient diffusion on region manifolds", CVPR 2017, as CLAID uses it (Tab. II): five queries
of each of the 250 classes, which are not searched; the other 27,293 pictures are. ``gnd_instre.mat`` names them and
is read where it lies in the folder (this needs scipy); without it the first five pictures of each class ask.
A query from INSTRE-M asks for pictures that hold both its objects; each object's box is a true one, as in CLAID's
mIoU, and so is the box around both, which is what a search for several objects answers with.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from edge_claid.datasets.dataset import Box, Dataset, DatasetImage, Query, Truth
from edge_claid.datasets.files import box_from_corner_and_size, lines, pictures
from edge_claid.errors import MachineError, UsageError

SUBSETS = ("INSTRE-S1", "INSTRE-S2", "INSTRE-M")
SPLIT = "gnd_instre.mat"
QUERIES_PER_CLASS = 5


def recognises(folder: Path) -> bool:
    """Whether a folder of the three subsets is there."""
    return any((folder / subset).is_dir() for subset in SUBSETS)


def read(folder: Path) -> Dataset:
    """Read the dataset; queries' source is their subset. UsageError where a box file is missing or damaged."""
    paths = {p.relative_to(folder).as_posix(): p for s in SUBSETS for p in pictures(folder / s)}
    boxes = {image: _boxes(path) for image, path in paths.items()}
    members: dict[str, list[str]] = defaultdict(list)
    for image in paths:
        members[image.rpartition("/")[0]].append(image)
    asking = _split(folder / SPLIT) if (folder / SPLIT).is_file() else _first_of_each(members.values())
    for image in asking - paths.keys():
        raise UsageError(f"{folder / SPLIT}: query {image!r} is not among the pictures; fetch the dataset anew")
    images = tuple(
        DatasetImage(image, path, source=image.split("/")[0], searched=image not in asking)
        for image, path in paths.items()
    )
    queries = tuple(Query(i, i, tuple(boxes[i]), i.split("/")[0]) for i in paths if i in asking)
    truth = {query.id: _truth(query, members, boxes, asking) for query in queries}
    return Dataset(folder.resolve().name, images, queries, truth)


def _boxes(picture: Path) -> list[Box]:
    file = picture.with_suffix(".txt")
    return [box_from_corner_and_size(fields, file) for fields in lines(file)]


def _first_of_each(classes: Iterable[list[str]]) -> set[str]:
    return {image for members in classes for image in sorted(members)[:QUERIES_PER_CLASS]}


def _split(file: Path) -> set[str]:
    try:
        from scipy.io import loadmat
    except ImportError:
        raise MachineError(
            f"{file} needs scipy to be read: pip install scipy, or remove it to ask with the first "
            f"{QUERIES_PER_CLASS} pictures of each class"
        ) from None
    try:
        names = loadmat(str(file))["qimlist"].ravel()
        return {str(name.ravel()[0]) for name in names}
    except Exception as error:  # a damaged file can make scipy's reader raise anything
        raise UsageError(f"{file}: cannot be read ({error}); fetch it anew") from None


def _truth(
    query: Query, members: dict[str, list[str]], boxes: dict[str, list[Box]], asking: set[str]
) -> tuple[Truth, ...]:
    """Searched pictures of the query's class with its boxes; for an object of S1 also those of its pair in M."""
    subset, name, _ = query.image.split("/")
    found = [(i, box) for i in members[f"{subset}/{name}"] for box in boxes[i]]
    if subset == "INSTRE-M":
        found += [(i, _around(boxes[i])) for i in members[f"{subset}/{name}"] if boxes[i]]
    if subset == "INSTRE-S1" and name[2:3] in ("a", "b"):
        line = "ab".index(name[2])
        for image in members.get(f"INSTRE-M/{name[:2]}", ()):
            found += [(image, box) for box in boxes[image][line : line + 1]]
    return tuple(Truth(image, box) for image, box in found if image not in asking)


def _around(boxes: list[Box]) -> Box:
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)
