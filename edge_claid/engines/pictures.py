"""The pictures that engines are calibrated and tried on: the ones of calibration/pictures.toml, or the user's own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_claid.config import NetworkSettings
from edge_claid.engines.recipe import Recipe
from edge_claid.errors import BadImageError, StorageError, UsageError
from edge_claid.frames.folder import PICTURE_SUFFIXES
from edge_claid.frames.letterbox import resize, size_by_area, size_by_longer_side
from edge_claid.frames.reading import read_picture
from edge_claid.models import NetworkFile
from edge_claid.models.cache import sha256_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_PACKAGE = Path(__file__).parent
_MOST = 64
_FEWEST = 4


@dataclass(frozen=True)
class Seen:
    """A picture as a network is shown it.

    pixels: (H, W, 3) uint8 RGB, resized. image_size: (width, height) of the original.
    """

    name: str
    pixels: np.ndarray
    image_size: tuple[int, int]


def own_pictures() -> list[Path]:
    """The files of calibration/pictures.toml: inside an installed package, or in a working copy."""
    installed = _PACKAGE / "calibration"
    if installed.is_dir():
        listed, folder = installed / "pictures.toml", installed
    else:
        top = _PACKAGE.parents[1]
        listed, folder = top / "calibration" / "pictures.toml", top / "samples" / "pictures"
    table = tomllib.loads(listed.read_text(encoding="utf-8"))
    return [folder / picture["file"] for picture in table["picture"]]


def pictures_of(folder: Path | None) -> list[Path]:
    """The user's pictures of a folder, at most 64 spread over it, each content once; None for our own.

    Raises UsageError where there are fewer than four, StorageError where one cannot be read.
    """
    if folder is None:
        return own_pictures()
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file())
    contents: dict[str, Path] = {}
    for path in found[:: -(-len(found) // _MOST) or 1]:
        try:
            contents.setdefault(sha256_of(path), path)
        except OSError as error:
            raise StorageError(
                f"calibration picture {path} cannot be read ({error.strerror}): change its permissions or take it out"
            ) from error
    if len(contents) < _FEWEST:
        raise _too_few(f"{folder} holds too few pictures", len(contents))
    return list(contents.values())


def seen_by(
    paths: Sequence[Path],
    network: NetworkFile,
    recipe: Recipe,
    settings: NetworkSettings,
    rejected: Callable[[str], None] = lambda reason: None,
) -> list[Seen]:
    """The pictures in the sizes that the pipeline would show this network, within the recipe's shapes.

    rejected: told of each picture that cannot be used, and why. Raises UsageError where fewer than four are left.
    """
    shown, reason = [], ""
    for path in paths:
        try:
            frame = read_picture(path)
        except BadImageError as error:
            reason = f" ({error})"
            rejected(f"left out of the calibration pictures: {error}")
            continue
        multiple = network.input_multiple
        if network.output == "tokens":
            width, height = size_by_area(frame.size, settings.vit_side, multiple)
        else:
            width, height = size_by_longer_side(frame.size, settings.descriptor_side, multiple)
        low, high = recipe.shapes.smallest, recipe.shapes.largest
        size = (min(max(width, low[2]), high[2]), min(max(height, low[1]), high[1]))
        shown.append(Seen(path.name, resize(frame.pixels, size), frame.size))
    if len(shown) < min(_FEWEST, len(paths)):
        raise _too_few(f"of {len(paths)} calibration pictures too few can be used{reason}", len(shown))
    return shown


def _too_few(what: str, count: int) -> UsageError:
    return UsageError(f"{what}: {count}, and calibration needs {_FEWEST} at least, unlike each other")


def planes_of(seen: Seen, source: str) -> np.ndarray:
    """What a typed graph takes: (1, 3, H, W) float32 of 0 to 255, or (1, H, W, 3) uint8. source: see Recipe.input."""
    if source == "pixels":
        return np.ascontiguousarray(seen.pixels[None])
    return np.ascontiguousarray(seen.pixels.transpose(2, 0, 1)[None], dtype=np.float32)


def normalised(seen: Seen, network: NetworkFile) -> np.ndarray:
    """What the zoo's float32 network takes: (1, 3, H, W) float32, normalised."""
    planes = planes_of(seen, "planes")
    mean, std = (value.astype(np.float64).reshape(1, 3, 1, 1) for value in (network.mean, network.std))
    return ((planes / 255.0 - mean) / std).astype(np.float32)
