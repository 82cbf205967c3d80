"""INRIA Holidays: the truth is in the file names, ``100000.jpg``, ``100001.jpg``, ``100100.jpg``, …

Source: Jégou et al., "Hamming embedding and weak geometric consistency for large scale image search", ECCV 2008, and
the data's page (lear.inrialpes.fr/people/jegou/data.php): 500 groups; the first picture of a group is the query, the
others of the group are its answers. All but the last two digits name the group, ``00`` is its first picture.
Queries show a scene, so the whole picture is asked for; no boxes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from edge_claid.datasets.dataset import Dataset, Query, Truth
from edge_claid.datasets.files import dataset_images, pictures, pictures_by_stem

NAME = re.compile(r"\d{6}")


def recognises(folder: Path) -> bool:
    """Whether all pictures have six digits for a name, and one of them ends in 00."""
    names = [path.stem for path in pictures(folder)]
    return any(name.endswith("00") for name in names) and all(NAME.fullmatch(name) for name in names)


def read(folder: Path) -> Dataset:
    """Read the dataset from its file names."""
    paths = pictures_by_stem(folder)
    groups: dict[str, list[str]] = defaultdict(list)
    for name in paths:
        groups[name[:-2]].append(name)
    queries = tuple(Query(name, name) for name in paths if name.endswith("00"))
    truth = {q.id: tuple(Truth(name) for name in groups[q.id[:-2]] if name != q.id) for q in queries}
    return Dataset(folder.resolve().name, dataset_images(paths), queries, truth)
