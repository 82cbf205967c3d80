"""The pictures that engines are calibrated and tried on: the ones of calibration/pictures.toml, or the user's own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_claid.config import NetworkSettings
from edge_claid.engines.recipe import Recipe
from edge_claid.errors import BadImageError, UsageError
from edge_claid.frames.letterbox import resize, size_by_area, size_by_longer_side
from edge_claid.frames.reading import read_picture
from edge_claid.models import NetworkFile

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
    """The user's pictures of a folder, at most 64 spread over it; None for our own.

    Raises UsageError where there are fewer than four.
    """
    if folder is None:
        return own_pictures()
    known = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in known and path.is_file())
    if len(found) < _FEWEST:
        raise UsageError(
            f"{folder} holds too few pictures ({len(found)}): calibration needs {_FEWEST} at least, unlike each other"
        )
    return found[:: -(-len(found) // _MOST)]


def seen_by(paths: Sequence[Path], network: NetworkFile, recipe: Recipe, settings: NetworkSettings) -> list[Seen]:
    """The pictures in the sizes that the pipeline would show this network, within the recipe's shapes.

    Raises UsageError where none can be used.
    """
    shown, reason = [], ""
    for path in paths:
        try:
            frame = read_picture(path)
        except BadImageError as error:
            reason = f" ({error})"
            continue
        multiple = network.input_multiple
        if network.output == "tokens":
            width, height = size_by_area(frame.size, settings.vit_side, multiple)
        else:
            width, height = size_by_longer_side(frame.size, settings.descriptor_side, multiple)
        low, high = recipe.shapes.smallest, recipe.shapes.largest
        size = (min(max(width, low[2]), high[2]), min(max(height, low[1]), high[1]))
        shown.append(Seen(path.name, resize(frame.pixels, size), frame.size))
    if not shown:
        raise UsageError(f"none of {len(paths)} calibration pictures can be used{reason}")
    return shown


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
