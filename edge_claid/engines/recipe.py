"""Recipes: how the engine of a network is built, one TOML file a network (engines/*.toml)."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from edge_claid.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_PACKAGE = Path(__file__).parent
INPUTS = ("planes", "pixels")
PRECISIONS = ("fp16", "fp32", "int8", "fp8")

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Shapes:
    """(batch, height, width) of the input: the smallest, the one kernels are chosen for, the largest."""

    smallest: Shape
    usual: Shape
    largest: Shape


@dataclass(frozen=True)
class Half:
    """Operators that stay in float32 at fp16, and those that join them where the acceptance test fails."""

    fp32: tuple[str, ...] = ()
    wider: tuple[str, ...] = ()


@dataclass(frozen=True)
class EightBit:
    """Operators quantised; names of nodes (``*`` stands for anything) that stay at fp16, because they lose too much.

    method, percentile: how activation ranges are found, see ``quantise.activation_ranges``.
    """

    quantised: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    method: str = "percentile"
    percentile: float = 99.99


@dataclass(frozen=True)
class Gate:
    """What an engine must reach against float32 on the calibration pictures; 0 asks nothing.

    token_cosine_mean, token_cosine_least: over all tokens; map_cosine_mean: over all cells of all maps;
    descriptor_cosine_least: of the descriptors of fixed boxes; region_iou: mean over the reference's regions of the
    best IoU.
    """

    token_cosine_mean: float = 0.0
    token_cosine_least: float = 0.0
    map_cosine_mean: float = 0.0
    descriptor_cosine_least: float = 0.0
    region_iou: float = 0.0


@dataclass(frozen=True)
class DeviceNote:
    """What differs on GPUs of one compute capability: workspace in MiB, the largest shape, why."""

    workspace_mb: int = 1024
    largest: Shape | None = None
    note: str = ""


@dataclass(frozen=True)
class Recipe:
    """One file of engines/; the keys are explained at the top of engines/dinov2-s14-focus.toml."""

    network: str
    layer: int
    input: str
    outputs: tuple[str, ...]
    precisions: tuple[str, ...]
    shapes: Shapes
    half: Half = field(default_factory=Half)
    int8: EightBit = field(default_factory=EightBit)
    fp8: EightBit = field(default_factory=EightBit)
    gate: Gate = field(default_factory=Gate)
    devices: dict[str, DeviceNote] = field(default_factory=dict)

    def checked_precision(self, precision: str | None) -> str:
        """The precision asked for, or the first for None. Raises UsageError for one the recipe does not allow."""
        if precision is None:
            return self.precisions[0]
        if precision not in self.precisions:
            raise UsageError(f"{self.network} is not built at {precision}: choose {' or '.join(self.precisions)}")
        return precision

    def shapes_on(self, targets: tuple[str, ...]) -> Shapes:
        """The shapes for one engine on all of these GPUs ("sm_87"): the largest that all of them take."""
        asked = [self.devices[target].largest for target in targets if target in self.devices]
        largest = [shape or self.shapes.largest for shape in asked] or [self.shapes.largest]
        if len(asked) < len(targets):
            largest.append(self.shapes.largest)
        batch, height, width = (min(sizes) for sizes in zip(*largest, strict=True))
        return Shapes(self.shapes.smallest, self.shapes.usual, (batch, height, width))

    def workspace_mb(self, targets: tuple[str, ...]) -> int:
        """Scratch memory the builder may plan with, in MiB: the least of the targets'."""
        return min((self.devices.get(target, DeviceNote()).workspace_mb for target in targets), default=1024)


def recipes_folder() -> Path:
    """Where the recipes lie: inside an installed package, or at the top of a working copy."""
    installed = _PACKAGE / "recipes"
    return installed if installed.is_dir() else _PACKAGE.parents[1] / "engines"


def recipe_names() -> list[str]:
    """Networks that have a recipe."""
    return sorted(path.stem for path in recipes_folder().glob("*.toml"))


def recipe(name: str, folder: Path | None = None) -> Recipe:
    """The recipe of a network. Raises UsageError where there is none, or it cannot be read."""
    path = (folder or recipes_folder()) / f"{name}.toml"
    if not path.is_file():
        raise UsageError(f"there is no recipe for {name}: choose of {', '.join(recipe_names())}, or add {path}")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        return _recipe(table)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, TypeError, KeyError, ValueError) as error:
        raise UsageError(f"recipe {path} cannot be used: {error}") from error


def _recipe(table: dict[str, Any]) -> Recipe:
    parts = {
        "shapes": _part(Shapes, table.pop("shapes")),
        "half": _part(Half, table.pop("half", {})),
        "int8": _part(EightBit, table.pop("int8", {})),
        "fp8": _part(EightBit, table.pop("fp8", {})),
        "gate": _part(Gate, table.pop("gate", {})),
        "devices": {sm: _part(DeviceNote, note) for sm, note in table.pop("devices", {}).items()},
    }
    made: Recipe = _part(Recipe, {**table, **parts})
    if made.input not in INPUTS:
        raise ValueError(f"input is {made.input!r}, not one of {', '.join(INPUTS)}")
    if not made.precisions or set(made.precisions) - set(PRECISIONS):
        raise ValueError(f"precisions are {made.precisions}, to be some of {', '.join(PRECISIONS)}")
    own = [(made.shapes.usual, note.largest) for note in made.devices.values() if note.largest]
    for low, high in ((made.shapes.smallest, made.shapes.usual), (made.shapes.usual, made.shapes.largest), *own):
        if any(a > b for a, b in zip(low, high, strict=True)) or min(low) < 1:
            raise ValueError(f"shapes must grow from smallest to largest: {made.shapes}")
    return made


def _part(kind: type, table: dict[str, Any]) -> Any:
    unknown = set(table) - {entry.name for entry in fields(kind)}
    if unknown:
        raise ValueError(f"unknown key {', '.join(sorted(unknown))}")
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in table.items()})
