"""BelgaLogos: ``images/`` and ``qset3_internal_and_local.gt``, ``.qry`` files of queries beside it.

Source: Joly and Buisson, "Logo retrieval with a contrario visual query expansion", ACM Multimedia 2009, and the data's
page (www-sop.inria.fr/members/Alexis.Joly/BelgaLogos). A line of the ground truth is ``id logo image type state x0 y0
x1 y1``, state 1 for a logo that can be made out and 0 for junk. The query files hold ``name image x0 y0 x1 y1``
(``qset1_internal.qry``, a name is a logo and a number) or the nine columns of the truth
(``qset3_internal_and_local.qry``). qset1 spells four logos otherwise than qset3. Where both are there qset1 is used,
the set of queries that publications report; without either, the first clear occurrence of every logo asks.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from edge_claid.datasets.dataset import Box, Dataset, Query, Truth
from edge_claid.datasets.files import box_from_corners, lines, pictures
from edge_claid.datasets.files import dataset_images as images_of
from edge_claid.errors import UsageError

TRUTH = "qset3_internal_and_local.gt"
QUERY_FILES = ("qset1_internal.qry", "qset3_internal_and_local.qry")
OTHER_SPELLING = {
    "Addidas": "Adidas",
    "Addidas-text": "Adidas-text",
    "President": "US_President",
    "Eleclerc": "ELeclerc",
}


class Occurrence(NamedTuple):
    """One logo in one picture."""

    logo: str
    image: str
    clear: bool
    box: Box


def recognises(folder: Path) -> bool:
    """Whether the local ground truth lies in the folder."""
    return (folder / TRUTH).is_file()


def read(folder: Path) -> Dataset:
    """Read the dataset; the queries' source is the logo. UsageError where a file is missing or damaged."""
    occurrences = [_occurrence(fields, folder / TRUTH) for fields in lines(folder / TRUTH)]
    of_logo: dict[str, list[Occurrence]] = defaultdict(list)
    for occurrence in occurrences:
        of_logo[occurrence.logo].append(occurrence)
    queries = _queries(folder, occurrences)
    truth = {query.id: tuple(Truth(o.image, o.box, not o.clear) for o in of_logo[query.source]) for query in queries}
    paths = {path.name: path for path in pictures(folder / "images")}
    return Dataset(folder.resolve().name, images_of(paths), tuple(queries), truth)


def _occurrence(fields: list[str], file: Path) -> Occurrence:
    if len(fields) != 9:
        raise UsageError(f"{file}: expected 9 columns, found {' '.join(fields)!r}; fetch the dataset anew")
    return Occurrence(fields[1], fields[2], fields[4] == "1", box_from_corners(fields[5:], file))


def _queries(folder: Path, occurrences: list[Occurrence]) -> list[Query]:
    file = next((folder / name for name in QUERY_FILES if (folder / name).is_file()), None)
    if file is None:
        first: dict[str, Occurrence] = {}
        for occurrence in occurrences:
            if occurrence.clear:
                first.setdefault(occurrence.logo, occurrence)
        return [Query(logo, o.image, (o.box,), logo) for logo, o in first.items()]
    queries = []
    for fields in lines(file):
        box = box_from_corners(fields[-4:], file)
        if len(fields) == 6:
            logo = fields[0].rstrip("0123456789")
            queries.append(Query(fields[0], fields[1], (box,), OTHER_SPELLING.get(logo, logo)))
        elif len(fields) == 9:
            queries.append(Query(fields[0], fields[2], (box,), fields[1]))
        else:
            raise UsageError(f"{file}: expected 6 or 9 columns, found {' '.join(fields)!r}; fetch the dataset anew")
    return queries
