"""Changes of one gallery that are cut short: images leave it, get labels, are coded or described anew."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable

import cut_enrolment
import forked
import numpy as np
import stand_in
from cut_world import Step, World

from edge_claid.codes.space import CodeSpace, train_space
from edge_claid.config import CodeSettings
from edge_claid.errors import UsageError
from edge_claid.gallery.storage import identity
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.upkeep.repair import repair as repair_gallery

# Named again after it was done, or with too few images to be trained on, it is wrong use.
_OR_WRONG_USE = (0, UsageError.exit_code)


def remove(world: World) -> Step:
    """``gallery remove`` of some images by their paths."""
    rows = world.images()
    if not rows:
        return cut_enrolment.enrol(world)
    count = int(world.rng.integers(1, max(2, min(30, len(rows)))))
    chosen = {row.path: row.content_hash for row in (rows[i] for i in world.rng.permutation(len(rows))[:count])}
    kept = frozenset(row.content_hash for row in rows if row.path not in chosen)

    def reports(line: str) -> tuple[set[bytes], set[bytes]]:
        told = json.loads(line)
        return set(), ({chosen[told["image"]]} if told.get("status") == "removed" else set())

    arguments = ["gallery", "remove", str(world.gallery), *chosen, "--json"]
    return Step("remove", lambda: forked.command(arguments), kept, reports, _OR_WRONG_USE)


def label(world: World) -> Step:
    """``gallery label`` of some images by their paths."""
    rows = world.images()
    if not rows:
        return cut_enrolment.enrol(world)
    count = int(world.rng.integers(1, len(rows) + 1))
    paths = {rows[i].path for i in world.rng.permutation(len(rows))[:count]}
    text = f"label {world.new_number()}"
    arguments = ["gallery", "label", str(world.gallery), *paths, "--set", text, "--json"]
    also = labelled(world, {row.content_hash for row in rows if row.path in paths}, text)
    return Step("label", lambda: forked.command(arguments), world.state(), also=also)


def labelled(world: World, chosen: set[bytes], text: str) -> Callable[[list[str], bool], list[str]]:
    """A check that these images have this label, all or none, and all once a line told it."""

    def also(lines: list[str], done: bool) -> list[str]:
        labels = {row.label for row in world.images() if row.content_hash in chosen}
        if (done or lines) and labels != {text}:
            return [f"labels are {sorted(map(str, labels))[:3]}, told was {text}"]
        return ["only some of the labels were changed"] if text in labels and len(labels) > 1 else []

    return also


def compact(world: World) -> Step:
    """``gallery compact``."""
    return Step("compact", lambda: forked.command(["gallery", "compact", str(world.gallery)]), world.state())


def adopt(world: World) -> Step:
    """The gallery takes another code space."""
    _keep_descriptors(world)
    if not world.spaces:
        world.spaces = [_space(seed) for seed in range(2)]
    with Gallery.open(world.gallery) as gallery:
        now = gallery.space
    space = world.spaces[now is not None and now.id == world.spaces[0].id]

    def work() -> None:
        with Gallery.open(world.gallery, "rw") as gallery:
            gallery.adopt_space(space)
        print(json.dumps({"space": space.id}), flush=True)

    return Step("code-book change", work, world.state(), also=_told_space(world))


def retrain(world: World) -> Step:
    """``gallery retrain``; too few images to be trained on are refused."""
    _keep_descriptors(world)
    arguments = ["gallery", "retrain", str(world.gallery), "--json"]
    work = lambda: forked.command(arguments)  # noqa: E731
    return Step("retrain", work, world.state(), codes=_OR_WRONG_USE, also=_told_space(world))


def can_learn() -> bool:
    return importlib.util.find_spec("torch") is not None


def learn(world: World) -> Step:
    """``learn udq``: a projection and a code book learned together are adopted."""
    # Here, so that no child has to.
    import edge_claid.learn.gallery  # noqa: F401

    _keep_descriptors(world)
    arguments = ["learn", "udq", str(world.gallery), "--iterations", "1", "--json"]
    work = lambda: forked.command(arguments)  # noqa: E731
    return Step("UDQ", work, world.state(), codes=_OR_WRONG_USE, also=_told_space(world))


def reencode(world: World) -> Step:
    """``gallery reencode --drop-missing`` to a pipeline with other networks."""
    stand_in.StandInPipeline.network += 1
    coming = stand_in.StandInPipeline().id
    grids = {coming: stand_in.GRIDS[stand_in.StandInPipeline.network % 2]}

    def also(lines: list[str], done: bool) -> list[str]:
        with Gallery.open(world.gallery) as gallery:
            is_new = gallery.info().pipeline_id == coming
            found = {gallery.regions(row.id).grid == grids[coming] for row in gallery.images()}
        if done and not is_new:
            return ["the gallery is still of the pipeline before"]
        return [] if found <= {is_new} else ["regions are not those of the gallery's pipeline"]

    arguments = ["gallery", "reencode", str(world.gallery), "--drop-missing", "--json"]
    return Step("reencode", lambda: forked.command(arguments), world.on_disk(), also=also)


def repair(world: World) -> Step:
    """Everything that is sound goes into a new file that takes the gallery's place."""
    for file in world.medium.glob("*.damaged*"):
        file.unlink()

    def work() -> None:
        print(json.dumps({"images": repair_gallery(str(world.gallery)).images}), flush=True)

    return Step("repair", work, world.state())


def _keep_descriptors(world: World) -> None:
    """What a code space is trained on must be there for the next one, too."""
    with Gallery.open(world.gallery, "rw") as gallery, gallery.writing() as connection:
        identity.write_meta(connection, keep_descriptors="1")


def _told_space(world: World) -> Callable[[list[str], bool], list[str]]:
    """A check that the code space which was told is the gallery's."""

    def also(lines: list[str], done: bool) -> list[str]:
        told = [json.loads(line) for line in lines]
        names = [one.get("space") or one.get("code_space") for one in told]
        with Gallery.open(world.gallery) as gallery:
            now = gallery.space
        return (
            [f"the code space told is {names[-1]}, another is there"]
            if names and (now is None or names[-1] != now.id)
            else []
        )

    return also


def _space(seed: int) -> CodeSpace:
    values = np.random.default_rng(seed).normal(size=(600, stand_in.DIM)).astype(np.float32)
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    return train_space(unit, CodeSettings(bytes=4, width=16, views=0), seed=seed)
