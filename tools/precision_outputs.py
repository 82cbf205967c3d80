"""Regions and descriptors of a data set's pictures at several precisions, kept in a folder, one file a picture."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from edge_claid.config import Settings
from edge_claid.datasets.dataset import Dataset
from edge_claid.engines.opening import without_normalisation
from edge_claid.engines.recipe import recipe
from edge_claid.engines.typed import typed_file
from edge_claid.frames.reading import read_picture
from edge_claid.models import NetworkFile, open_network
from edge_claid.pipeline import Pipeline
from edge_claid.records import Described, Descriptors, Frame, Regions

# Of the ViT; the convolutional network has no dynamic int8.
PRECISIONS = ("fp32", "fp16", "dynamic int8", "int8")


class OutOfTimeError(Exception):
    """The time that was given is over; what is done is kept."""


@dataclass(frozen=True)
class Row:
    """Precisions of the two networks that are compared together."""

    vit: str
    convolutional: str

    @classmethod
    def of(cls, name: str) -> Row:
        """From "VIT/CONVOLUTIONAL"."""
        return cls(*name.split("/"))


def network_at(name: str, precision: str) -> NetworkFile:
    """A network whose file is the graph at this precision, typed as engines are built from but for fp32 and dynamic."""
    known = recipe(name)
    plain = open_network(name, layer=known.layer)
    if precision == "fp32":
        return plain
    if precision == "dynamic int8":
        return open_network(name, variant="int8", layer=known.layer)
    return replace(without_normalisation(plain), path=typed_file(plain, known, precision))


class Outputs:
    """Outputs for one data set below a folder; made where they are missing.

    seconds: time to work; beyond it OutOfTimeError is raised. pictures: how many of the data set's are looked at,
    spread over it; None for all.
    """

    def __init__(self, dataset: Dataset, folder: Path, seconds: float, pictures: int | None = None) -> None:
        self._until, self._settings = time.monotonic() + seconds, Settings()
        paths = {image.id: os.fspath(image.path) for image in dataset.images}
        searched = [os.fspath(image.path) for image in dataset.images if image.searched]
        self.paths = searched[:: max(len(searched) // pictures, 1)][:pictures] if pictures else searched
        self._queries = [(query, paths[query.image]) for query in dataset.queries]

        # Other settings, or another method, are another pipeline: nothing of it may be taken for this one's.
        self.folder = folder / self.float32.id
        self.folder.mkdir(parents=True, exist_ok=True)

    @cached_property
    def float32(self) -> Pipeline:
        """The pipeline at float32, to be opened by who lets it look at something."""
        return self._pipeline("fp32", "fp32")

    def find_regions(self, precision: str) -> None:
        """Fill in tokens and regions with the ViT at a precision."""
        missing = [path for path in self.paths if not self._regions_file(precision, path).is_file()]
        if not missing:
            return
        with self._pipeline(precision, "fp32") as pipeline:
            for path in self._in_time(missing):
                tokens = pipeline.tokens(read_picture(path))
                found = pipeline.detect(tokens)
                values = {entry.name: np.asarray(getattr(found, entry.name)) for entry in fields(found)}
                features = tokens.features.astype(np.float16)
                _keep(self._regions_file(precision, path), values | {"features": features})

    def find_descriptors(self, precision: str, vits: Sequence[str]) -> None:
        """Fill in descriptors with the convolutional network at a precision, of the regions of all these ViTs.

        The network looks at a picture once for all of them.
        """

        def lacking(path: str) -> list[str]:
            return [vit for vit in vits if not self._rows_file(Row(vit, precision), path).is_file()]

        queries = [asked for asked in self._queries if not self._query_file(precision, asked[0].id).is_file()]
        pictures = [path for path in self.paths if lacking(path)]
        if not queries and not pictures:
            return
        with self._pipeline("fp32", precision) as pipeline:
            for query, path in self._in_time(queries):
                found = pipeline.describe(path, boxes=query.boxes)
                _keep(self._query_file(precision, query.id), {"values": found.values, "aspects": found.aspects})
            for path in self._in_time(pictures):
                feature_map = pipeline.feature_map(read_picture(path))
                for vit in lacking(path):
                    values = pipeline.pool(feature_map, self.regions(vit, path)).values
                    _keep(self._rows_file(Row(vit, precision), path), {"values": values})

    def regions(self, precision: str, path: str) -> Regions:
        """Regions of a picture, found before."""
        with np.load(self._regions_file(precision, path), allow_pickle=False) as kept:
            values = {entry.name: kept[entry.name] for entry in fields(Regions)}
        pairs = {name: tuple(int(size) for size in values[name]) for name in ("grid", "image_size")}
        return Regions(**(values | pairs))

    def features(self, precision: str, path: str) -> np.ndarray:
        """(N, D) float32 tokens, which were kept as float16."""
        with np.load(self._regions_file(precision, path), allow_pickle=False) as kept:
            return kept["features"].astype(np.float32)

    def queries(self, precision: str) -> dict[str, Descriptors]:
        """Descriptors of the queries by their ids."""
        found = {}
        for query, _ in self._queries:
            with np.load(self._query_file(precision, query.id), allow_pickle=False) as kept:
                found[query.id] = Descriptors(kept["values"], kept["aspects"])
        return found

    def row_id(self, row: Row) -> str:
        """Names the graphs of a row: other graphs, another name."""
        networks = self._settings.networks
        places = [self._place("", row.vit, networks.vit), self._place("", row.convolutional, networks.descriptor)]
        return "-".join(place.name.rpartition("-")[2] for place in places)

    def described(self, row: Row, path: str) -> Described:
        """A picture as an enrolment with these precisions describes it."""
        with np.load(self._rows_file(row, path), allow_pickle=False) as kept:
            return Described(self.regions(row.vit, path), Descriptors(kept["values"]))

    # -- inside

    def _pipeline(self, vit: str, convolutional: str) -> Pipeline:
        names = self._settings.networks
        files = network_at(names.vit, vit), network_at(names.descriptor, convolutional)
        return Pipeline(self._settings, *files, threads=1)

    def _in_time(self, work: Iterable[Any]) -> Iterator[Any]:
        for piece in work:
            if time.monotonic() > self._until:
                raise OutOfTimeError
            yield piece

    def _regions_file(self, precision: str, path: str) -> Path:
        return self._place("regions", precision, self._settings.networks.vit) / f"{_key(path)}.npz"

    def _rows_file(self, row: Row, path: str) -> Path:
        above = self._place("regions", row.vit, self._settings.networks.vit).name
        return self._place(f"rows-{above}", row.convolutional, self._settings.networks.descriptor) / f"{_key(path)}.npz"

    def _query_file(self, precision: str, query_id: str) -> Path:
        return self._place("queries", precision, self._settings.networks.descriptor) / f"{query_id}.npz"

    def _place(self, what: str, precision: str, network: str) -> Path:
        """Another graph at the same precision has another folder."""
        if (network, precision) not in _GRAPHS:
            name = network_at(network, precision).path.name
            _GRAPHS[network, precision] = hashlib.sha256(name.encode()).hexdigest()[:8]
        return self.folder / f"{what}-{precision.replace(' ', '-')}-{_GRAPHS[network, precision]}"


_GRAPHS: dict[tuple[str, str], str] = {}


class Remembered:
    """Describes pictures from what is kept, in the place of a pipeline; see gallery.enroll.Describer."""

    def __init__(self, outputs: Outputs, row: Row) -> None:
        self._outputs, self._row = outputs, row
        self._paths = {os.path.basename(path): path for path in outputs.paths}
        assert len(self._paths) == len(outputs.paths), "pictures of one name"
        self.id, self.describe_settings = outputs.float32.id, outputs.float32.describe_settings
        self.descriptor_dim = outputs.float32.descriptor_dim

    def describe_many(self, frames: Iterable[Frame]) -> Iterator[Described | Exception]:
        """See Pipeline.describe_many."""
        for frame in frames:
            yield self._outputs.described(self._row, self._paths[os.path.basename(frame.name)])


def over_pictures(outputs: Outputs, precision: str, figure: Callable[[str, str], np.ndarray]) -> tuple[float, float]:
    """Mean over all values that `figure` gives of a precision and a picture, and the least of the pictures' means."""
    values = [figure(precision, path) for path in outputs.paths]
    return float(np.concatenate(values).mean()), min(float(of_one.mean()) for of_one in values)


def _key(path: str) -> str:
    return hashlib.blake2b(path.encode(), digest_size=10).hexdigest()


def _keep(path: Path, arrays: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    np.savez(part, **arrays)
    part.replace(path)
