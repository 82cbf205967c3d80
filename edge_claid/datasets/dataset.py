"""What an instance-search dataset is: pictures, queries, and which pictures truly hold what a query shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edge_claid.errors import UsageError

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class DatasetImage:
    """One picture of a dataset.

    id: its name within the dataset. path: the file. width, height: pixels, or None where the dataset does not say.
    source: which part of the dataset it belongs to. searched: False for a picture that only serves as a query and
    is not among those to be ranked.
    """

    id: str
    path: Path
    width: int | None = None
    height: int | None = None
    source: str = ""
    searched: bool = True


@dataclass(frozen=True)
class Query:
    """One query: an image, or the objects in some boxes of it.

    boxes: (x0, y0, x1, y1) in pixels of the image; several ask for pictures that hold all these objects;
    None asks for the whole picture. source: the part of the dataset it is reported under.
    """

    id: str
    image: str
    boxes: tuple[Box, ...] | None = None
    source: str = ""


@dataclass(frozen=True)
class Truth:
    """One true occurrence of what a query shows.

    box: where, or None where the dataset does not say. ignore: counts neither as hit nor as miss.
    """

    image: str
    box: Box | None = None
    ignore: bool = False


@dataclass(frozen=True)
class Dataset:
    """Pictures, queries and truth. A picture without a truth entry of a query is a true negative of it.

    Raises UsageError where an id is given twice or names a picture that is not there.
    """

    name: str
    images: tuple[DatasetImage, ...]
    queries: tuple[Query, ...]
    truth: Mapping[str, tuple[Truth, ...]]

    def __post_init__(self) -> None:
        known = {image.id for image in self.images}
        for what, ids in (("image", [i.id for i in self.images]), ("query", [q.id for q in self.queries])):
            if len(set(ids)) != len(ids):
                twice = next(i for i in ids if ids.count(i) > 1)
                raise UsageError(f"dataset {self.name}: {what} id {twice!r} is given twice; ids must be unique")
        for query in self.queries:
            if query.image not in known:
                raise UsageError(
                    f"dataset {self.name}: query {query.id!r} names image {query.image!r}, "
                    "which is not in its list of images; mend the ground truth"
                )
            for entry in self.truth.get(query.id, ()):
                if entry.image not in known:
                    raise UsageError(
                        f"dataset {self.name}: the truth of query {query.id!r} names image "
                        f"{entry.image!r}, which is not in its list of images; mend the ground truth"
                    )

    def image(self, image_id: str) -> DatasetImage:
        """The picture of that id; KeyError where there is none."""
        for image in self.images:
            if image.id == image_id:
                return image
        raise KeyError(image_id)

    def limited(self, queries: int) -> Dataset:
        """The same pictures with at most that many queries, spread evenly over the list so that all parts are kept."""
        count = len(self.queries)
        if queries >= count:
            return self
        rows = [row * count // queries for row in range(queries)]
        return replace(self, queries=tuple(self.queries[row] for row in rows))
