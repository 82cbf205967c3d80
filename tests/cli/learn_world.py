"""A gallery to learn from and the program's main function over it, without networks; also run as a program by itself.

    python learn_world.py MOMENT edge-claid's arguments…

kills itself with SIGKILL at that moment: "step N" or "images N" (so many are coded).
"""

from __future__ import annotations

import os
import signal
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "gallery"))

from made_up import DIM, MadeUpPipeline, described

import edge_claid.cli.learn as learn_verb
from edge_claid.codes.space import train_space
from edge_claid.config import CodeSettings
from edge_claid.gallery.roots import register_root
from edge_claid.gallery.storage.rows import NewImage
from edge_claid.gallery.store import Gallery
from edge_claid.records import Described, Descriptors

SETTINGS = "[codes]\nwidth = 16\nbytes = 4\nviews = 0\n"
IMAGES, REGIONS = 130, 8


DIRECTIONS = np.random.default_rng(7).normal(size=(40, DIM))


class ViewingPipeline(MadeUpPipeline):
    """A view of a picture is what the gallery holds of it, with a little noise."""

    def described_views(self, pictures: Iterable[tuple[str, np.ndarray]], count: int) -> Iterator[np.ndarray | None]:
        rng = np.random.default_rng(0)
        for path, _ in pictures:
            own = _image(int(Path(path).stem)).described.descriptors.values
            noisy = own + rng.normal(0, 0.02, (1 + count, *own.shape)).astype(np.float32)
            yield noisy / np.linalg.norm(noisy, axis=-1, keepdims=True)


def make_gallery(path: Path, *, images: int = IMAGES, keep: bool = True, coded: bool = True) -> None:
    """Images whose regions lie near forty directions, coded by an ordinary training."""
    with Gallery.open(path, "create") as gallery:
        gallery.bind(MadeUpPipeline().id, MadeUpPipeline().describe_settings, DIM, keep_descriptors=keep)
        register_root(gallery, str(path.parent), "photos")
        gallery.add([_image(seed) for seed in range(images)])
        if coded:
            settings = CodeSettings(width=16, bytes=4, views=0)
            gallery.adopt_space(train_space(gallery.descriptors(10**6), settings))


def _image(seed: int) -> NewImage:
    rng = np.random.default_rng(seed)
    values = DIRECTIONS[rng.integers(0, len(DIRECTIONS), REGIONS)] + 0.4 * rng.normal(size=(REGIONS, DIM))
    values = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    return NewImage(
        1,
        f"{seed}.png",
        struct.pack(">Q", seed),
        1,
        2,
        Described(described(seed, REGIONS).regions, Descriptors(values)),
    )


@contextmanager
def open_made_up() -> Iterator[MadeUpPipeline]:
    yield ViewingPipeline()


def at_moment(moment: str, act: Callable[[], None]) -> None:
    """Act when so many steps are learned, or so many images coded."""
    what, number = moment.split()
    tell, count, done = learn_verb._tell_progress, learn_verb._count, [0]

    def told(progress):  # type: ignore[no-untyped-def]
        tell(progress)
        if what == "step" and progress.done == int(number):
            act()

    def counted(progress, images):  # type: ignore[no-untyped-def]
        count(progress, images)
        done[0] += images
        if what == "images" and done[0] >= int(number):
            act()

    learn_verb._tell_progress, learn_verb._count = told, counted


if __name__ == "__main__":
    from edge_claid.cli.app import main

    learn_verb.open_pipeline = open_made_up
    at_moment(sys.argv[1], lambda: os.kill(os.getpid(), signal.SIGKILL))
    sys.argv = ["edge-claid", *sys.argv[2:]]
    main()
