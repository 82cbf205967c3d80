"""What an enrolment is asked for, and what it needs of a pipeline."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from edge_claid.gallery.enrolment.budget import RESERVE_BYTES, Estimate
from edge_claid.gallery.labels import Labels
from edge_claid.gallery.storage.batch import Space
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.training import untold
from edge_claid.records import Described, Frame


class Describer(Protocol):
    """What enrolment needs of a pipeline."""

    @property
    def id(self) -> str:
        """The pipeline id."""

    @property
    def describe_settings(self) -> dict[str, Any]:
        """What the id stands for, to be stored with the gallery."""

    @property
    def descriptor_dim(self) -> int:
        """Length of a descriptor before projection."""

    def describe_many(self, frames: Iterable[Frame]) -> Iterator[Described | Exception]:
        """One result per frame, in order; an exception in place of a description where a frame failed."""


@dataclass(frozen=True)
class EnrollOptions:
    """prune: remove what a source's folder no longer has. dry_run: say what would be done, write nothing.

    keep_descriptors: keep float16 descriptors beside the codes; as the gallery is set where None.
    train: a gallery and the pipeline to a code space, or None to leave the gallery uncoded.
    train_least: regions needed before it is called at the end; train_early: regions at which it is called on the way,
    so that uncoded descriptors do not fill the disk. training: told how far that training is.
    planned: told what lies ahead before the work. reserve: bytes of the disk that are left free.
    stop: once set, what is in work is committed and the run ends. path: with dry_run, where the gallery would be made.
    """

    labels: Labels = field(default_factory=Labels)
    prune: bool = False
    dry_run: bool = False
    keep_descriptors: bool | None = None
    train: Callable[[Gallery, Describer], Space] | None = None
    train_least: int = 2_000
    train_early: int = 50_000
    training: Callable[[str, int, int], None] = untold
    planned: Callable[[Estimate], None] = lambda estimate: None
    reserve: int = RESERVE_BYTES
    stop: threading.Event = field(default_factory=threading.Event)
    path: str | None = None
