"""Operations between files that are cut short: merging, importing, copying."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import forked
from cut_changes import labelled
from cut_world import State, Step, World, digest, images_of

from edge_claid.errors import UsageError
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.upkeep.verify import verify


def merge(world: World) -> Step:
    """``gallery merge`` of a gallery with pictures of its own and some that both have."""
    for file in [*world.others.iterdir(), *world.second.parent.glob(f"{world.second.name}*")]:
        file.unlink()
    for _ in range(int(world.rng.integers(5, 20))):
        world.write_picture(world.others / f"{world.new_number():012}.png")
    for path in sorted(world.photos.iterdir())[:4]:
        shutil.copy2(path, world.others / f"copy{path.name[-16:]}")
    made = forked.run(lambda: forked.command(["enroll", str(world.others), "--gallery", str(world.second)]))
    assert made.code == 0, made.error
    own = {path.name: digest(path) for path in world.others.iterdir()}

    def reports(line: str) -> tuple[set[bytes], set[bytes]]:
        told = json.loads(line)
        return ({own[told["image"]]} if told.get("status") == "added" else set()), set()

    arguments = ["gallery", "merge", str(world.gallery), str(world.second), "--json"]
    return Step("merge", lambda: forked.command(arguments), world.state() | frozenset(own.values()), reports)


def import_labels(world: World) -> Step:
    """``gallery import`` of JSON lines that label every image."""
    text, state = f"imported {world.new_number()}", world.state()
    lines = (json.dumps({"hash": content.hex(), "label": text}) + "\n" for content in sorted(state))
    world.table.write_text("".join(lines))
    arguments = ["gallery", "import", str(world.gallery), str(world.table), "--json"]
    return Step("import labels", lambda: forked.command(arguments), state, also=labelled(world, set(state), text))


def import_gallery(world: World) -> Step:
    """``gallery import`` of a gallery as a new one, which is there whole or not at all."""
    world.copy.unlink(missing_ok=True)
    arguments = ["gallery", "import", str(world.copy), str(world.gallery), "--json"]
    # A name that is taken is wrong use, also by what the cut command had completed.
    codes = (0, UsageError.exit_code)
    return Step("import gallery", lambda: forked.command(arguments), world.state(), codes=codes, also=_copied(world))


def copy(world: World) -> Step:
    """``gallery export --to`` over an older copy."""
    arguments = ["gallery", "export", str(world.gallery), "--to", str(world.copy), "--overwrite", "--json"]
    earlier = frozenset(row.content_hash for row in images_of(world.copy))
    return Step("copy", lambda: forked.command(arguments), world.state(), also=_copied(world, earlier))


def _copied(world: World, earlier: State = frozenset()) -> Callable[[list[str], bool], list[str]]:
    """A check that the copy is whole and sound, the new one or an earlier one; the new one once that was told."""
    state = world.state()

    def also(lines: list[str], done: bool) -> list[str]:
        found = frozenset(row.content_hash for row in images_of(world.copy))
        if found != state and (done or lines or found != earlier):
            return [f"a copy with {len(found)} images of {len(state)}"]
        if world.copy.exists():
            with Gallery.open(world.copy) as gallery:
                return [f"the copy: {problem.what}" for problem in verify(gallery)]
        return []

    return also
