"""Oxford5k and Paris6k: ``NAME_query.txt``, ``NAME_good.txt``, ``NAME_ok.txt``, ``NAME_junk.txt`` beside the pictures.

Source: Philbin et al., "Object retrieval with large vocabularies and fast spatial matching", CVPR 2007, and the
data's page (robots.ox.ac.uk/~vgg/data/oxbuildings). A query file holds one line, ``oxc1_all_souls_000013 136.5 34.1
648.5 955.7``: picture (Oxford's carry the prefix ``oxc1_``, Paris' do not) and box x0 y0 x1 y1. Good and OK pictures
are relevant, junk is ignored, no boxes are given. The original program counts the query's own picture as a hit; here
it leaves the ranking as everywhere, so figures are a little lower than published ones.
"""

from __future__ import annotations

from pathlib import Path

from edge_claid.datasets.dataset import Dataset, Query, Truth
from edge_claid.datasets.files import box_from_corners, dataset_images, lines, pictures_by_stem
from edge_claid.errors import UsageError

QUERY = "_query.txt"
PREFIX = "oxc1_"


def recognises(folder: Path) -> bool:
    """Whether a query file and its good file lie somewhere below the folder."""
    query = next(folder.rglob(f"*{QUERY}"), None)
    return query is not None and query.with_name(query.name.replace(QUERY, "_good.txt")).is_file()


def read(folder: Path) -> Dataset:
    """Read all queries; the queries' source is the landmark. UsageError where a file is missing or damaged."""
    images = dataset_images(pictures_by_stem(folder))
    queries, truth = [], {}
    for file in sorted(folder.rglob(f"*{QUERY}")):
        name = file.name[: -len(QUERY)]
        first = next(lines(file), None)
        if first is None:
            raise UsageError(f"{file}: is empty; fetch the dataset anew")
        box = box_from_corners(first[1:], file)
        queries.append(Query(name, first[0].removeprefix(PREFIX), (box,), name.rpartition("_")[0]))
        truth[name] = tuple(
            Truth(fields[0], ignore=label == "junk")
            for label in ("good", "ok", "junk")
            for fields in lines(file.with_name(f"{name}_{label}.txt"))
        )
    return Dataset(folder.resolve().name, images, tuple(queries), truth)
