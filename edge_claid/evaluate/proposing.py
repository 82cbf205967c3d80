"""A pipeline with other regions than its own, to compare with: the whole picture, or a grid of rectangles."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from edge_claid.errors import EdgeClaidError, UsageError
from edge_claid.records import Described, Descriptors, Frame, Regions
from edge_claid.regions.proposals import grid_of_rectangles, whole_image

PROPOSALS: dict[str, Callable[[tuple[int, int]], Regions]] = {"whole": whole_image, "grid": grid_of_rectangles}


class BoxDescriber(Protocol):
    """What this needs of a pipeline."""

    @property
    def id(self) -> str: ...
    @property
    def describe_settings(self) -> dict[str, Any]: ...
    @property
    def descriptor_dim(self) -> int: ...
    def describe(self, image: Any, box: Any = None, *, boxes: Any = None) -> Descriptors: ...


class ProposingPipeline:
    """Describes pictures by proposals in place of the pipeline's regions; queries as the pipeline does.

    name: "whole" or "grid". threads: pictures worked on at once. Its id differs from the pipeline's, so that galleries
    of both are never mixed. Raises UsageError for another name.
    """

    def __init__(self, pipeline: BoxDescriber, name: str, threads: int = 2) -> None:
        if name not in PROPOSALS:
            raise UsageError(f"no proposals {name!r}: choose of {', '.join(PROPOSALS)}")
        self._pipeline, self._name, self._threads = pipeline, name, threads
        self._propose = PROPOSALS[name]

    @property
    def id(self) -> str:
        """Pipeline id."""
        return hashlib.sha256(f"{self._pipeline.id} {self._name}".encode()).hexdigest()[:16]

    @property
    def describe_settings(self) -> dict[str, Any]:
        """The pipeline's settings, its regions replaced by the proposals' name."""
        return self._pipeline.describe_settings | {"regions": self._name}

    @property
    def descriptor_dim(self) -> int:
        """Length of a descriptor before projection."""
        return self._pipeline.descriptor_dim

    def describe(self, image: Any, box: Any = None, *, boxes: Any = None) -> Descriptors:
        """A query's descriptors, as the pipeline gives them."""
        return self._pipeline.describe(image, box, boxes=boxes)

    def describe_many(self, frames: Iterable[Frame]) -> Iterator[Described | Exception]:
        """Proposals and their descriptors, in order; the exception itself for a picture that cannot be used."""
        waiting: deque[Future[Described]] = deque()
        with ThreadPoolExecutor(self._threads, "propose") as workers:
            for frame in frames:
                waiting.append(workers.submit(self._described, frame))
                if len(waiting) > self._threads:
                    yield _settled(waiting.popleft())
            while waiting:
                yield _settled(waiting.popleft())

    def _described(self, frame: Frame) -> Described:
        regions = self._propose(frame.size)
        return Described(regions, self._pipeline.describe(frame, boxes=regions.boxes))


def _settled(future: Future[Described]) -> Described | Exception:
    try:
        return future.result()
    except EdgeClaidError as error:
        return error
