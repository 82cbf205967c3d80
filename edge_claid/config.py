"""Settings, one frozen dataclass per stage. A flag beats the environment, which beats the file."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field, fields, replace
from math import inf
from pathlib import Path
from typing import Any

from edge_claid.errors import UsageError
from edge_claid.setting_ranges import RANGES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


RUNTIMES = ("auto", "onnx", "onnx-cuda", "onnx-tensorrt", "tensorrt")
STAGES = ("cpu", "cuda")


@dataclass(frozen=True)
class RegionSettings:
    """How tokens become regions (CLAID, papers/claid.txt §III).

    alpha: two tokens are connected where their cosine is above it (eq. 5).
    tau1: a node is cut while its mean internal connectivity (eq. 9) is below it.
    tau2: a node is a region when more than this share of its tokens has high energy (eq. 10); negative keeps all.
    energy_share: share of an image's tokens that count as high-energy.
    smallest: components with fewer tokens are dropped.
    merge_iou: a region whose mask overlaps its nearest kept ancestor by more than this IoU is left out; 1 keeps all.
    center: subtract the network's mean token before cosines are taken.
    """

    alpha: float = 0.25
    tau1: float = 0.99
    tau2: float = -1.0
    energy_share: float = 0.3
    smallest: int = 8
    merge_iou: float = 0.9
    center: bool = True

    @property
    def decomposition(self) -> dict[str, Any]:
        """What of it the decomposition takes (ops/reference/decomposition_settings.py); the rest chooses its nodes."""
        return {
            "alpha": self.alpha,
            "tau1": self.tau1,
            "energy_share": self.energy_share,
            "smallest": self.smallest,
        }


@dataclass(frozen=True)
class NetworkSettings:
    """Which networks see a picture, and at what size.

    vit: name in the zoo of the network that gives tokens. vit_variant: "int8" or "fp32" (they share a pipeline id).
    token_layer: block whose output is used, from 0. vit_side: the picture is resized, keeping its shape, so that
    it has about as many pixels as a square of this side.
    descriptor: name in the zoo of the convolutional network. descriptor_side: length of the longer side it sees.
    descriptor_growth: a small picture is grown by this factor at most, so that a cut-out shows its thing about as large
    as the pictures it is sought in do; 0 sets no limit.
    runtime: what runs them, of RUNTIMES. "auto": engines of this machine's GPU where they are built, else ONNX Runtime
    on the CPU; every other name is what runs, or an error. engine_precision: of the engines, "" for the first of the
    recipe's precisions that is built. stages: where regions and descriptors are computed, of STAGES. None of the
    three is part of the pipeline id.
    """

    vit: str = "dinov2-s14-focus"
    vit_variant: str = "int8"
    token_layer: int = 8
    vit_side: int = 448
    descriptor: str = "efficientnet-lite0"
    descriptor_side: int = 896
    descriptor_growth: float = 2.0
    runtime: str = "auto"
    engine_precision: str = ""
    stages: str = "cpu"


@dataclass(frozen=True)
class DescriptorSettings:
    """How a region's descriptor is pooled from the convolutional maps.

    power: exponent of the generalised mean; infinity takes the maximum.
    margin: share of a box's width and of its height that is left out at each side: a box's rim and corners show what
    lies around the thing more than the thing.
    smallest_side: boxes are widened to at least this many cells of the map.
    share_16, share_8: weight of the network's maps of stride 16 and 8 beside its last one, which has weight 1; they
    know small things and print better, the last one what a thing is. 0 leaves a map out.
    mask: pool only over the tokens of a region's mask inside its box. A box that is asked for has no mask and is pooled
    whole, so it finds masked regions less well.
    """

    power: float = 3.0
    margin: float = 0.08
    smallest_side: float = 1.0
    share_16: float = 1.0
    share_8: float = 0.5
    mask: bool = False


@dataclass(frozen=True)
class CodeSettings:
    """How a gallery codes descriptors.

    bytes: length of a region's code. width: dimensions kept by the whitening. whitening: exponent of the whitening
    (1 full, 0.5 the square root of the spectrum, 0 plain PCA). views: pictures of the gallery that are looked at in
    views_each augmented views to learn which directions to trust; 0 leaves that out.
    """

    bytes: int = 16
    width: int = 192
    whitening: float = 0.5
    views: int = 64
    views_each: int = 4


@dataclass(frozen=True)
class SearchSettings:
    """How regions' scores become one answer an image.

    shortlist: images that are scored by all their regions, at least; the scan finds them by one region each.
    temperature: how far below the best a region's score may lie and still count for the box.
    """

    shortlist: int = 200
    temperature: float = 0.06


@dataclass(frozen=True)
class LiveSettings:
    """How looks at a stream become tracks with names.

    looks, agreement: looks needed for a name, and the share of the last `window` looks that must give it.
    match: probability of a true match under which a look names nothing. expected_odds: how much likelier a thing is
    where its track should be than anywhere; its score may be that much lower there. temperature: how far below the best
    a region's score may lie and still count for the box. least_share: share of the best place's score in a frame that
    other places of the same thing need.
    nearest: gallery images taken a region. coast_looks: looks that may miss a named thing before it leaves the answer.
    forget_seconds: after so long a thing that comes back is another track. least_overlap: IoU that ties two looks.
    most_unknown: regions without a name that are followed.
    workers: frames looked at at once, 0 for one per core. gallery_seconds: how often changes of the gallery are sought.
    """

    looks: int = 3
    agreement: float = 0.6
    window: int = 8
    match: float = 0.7
    expected_odds: float = 9.0
    temperature: float = 0.03
    least_share: float = 0.8
    nearest: int = 4
    coast_looks: int = 1
    forget_seconds: float = 2.0
    least_overlap: float = 0.15
    most_unknown: int = 6
    workers: int = 0
    gallery_seconds: float = 1.0


@dataclass(frozen=True)
class Settings:
    """All settings; each part goes to the stage of its name."""

    networks: NetworkSettings = field(default_factory=NetworkSettings)
    regions: RegionSettings = field(default_factory=RegionSettings)
    descriptors: DescriptorSettings = field(default_factory=DescriptorSettings)
    codes: CodeSettings = field(default_factory=CodeSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    live: LiveSettings = field(default_factory=LiveSettings)


def default_path() -> Path:
    """Where a user's settings file is looked for: ``$XDG_CONFIG_HOME/edge-claid/config.toml``."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "edge-claid" / "config.toml"


def load_settings(path: Path | None = None) -> Settings:
    """Settings from a TOML file with one table per part; missing keys keep their defaults.

    path: the file; None reads the default place where there is one. ``EDGE_CLAID_RUNTIME`` stands for the file's
    ``[networks] runtime``. Raises UsageError naming the key at fault.
    """
    if path is None:
        path = default_path()
        settings = _from_file(path) if path.is_file() else Settings()
    else:
        settings = _from_file(path)
    runtime = os.environ.get("EDGE_CLAID_RUNTIME")
    return replace(settings, networks=replace(settings.networks, runtime=runtime)) if runtime else settings


def _from_file(path: Path) -> Settings:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"settings file {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"settings file {path} is not valid TOML: {error}") from error
    parts = {part.name: part for part in fields(Settings)}
    for name in tables:
        if name not in parts:
            raise UsageError(f"settings file {path}: no table [{name}]; there are {', '.join(parts)}")
    settings = replace(Settings(), **{name: _part(path, name, table) for name, table in tables.items()})
    if settings.codes.width % settings.codes.bytes:
        raise UsageError(
            f"settings file {path}: [codes] {settings.codes.bytes} bytes do not divide a width of "
            f"{settings.codes.width}: each byte codes an equal number of its values"
        )
    return settings


def _part(path: Path, name: str, table: object) -> Any:
    default = getattr(Settings(), name)
    known = {entry.name: getattr(default, entry.name) for entry in fields(default)}
    if not isinstance(table, dict):
        raise UsageError(f"settings file {path}: {name} must be a table")
    for key, value in table.items():
        if key not in known:
            raise UsageError(f"settings file {path}: [{name}] has no {key}; there are {', '.join(known)}")
        wanted = type(known[key])
        if not (isinstance(value, wanted) and isinstance(value, bool) == (wanted is bool)) and not (
            wanted is float and isinstance(value, int) and not isinstance(value, bool)
        ):
            raise UsageError(f"settings file {path}: [{name}] {key} must be a {wanted.__name__}, not {value!r}")
        least, most = RANGES[name].get(key, (-inf, inf))
        if wanted in (int, float) and not least <= value <= most:  # nor is NaN
            raise UsageError(f"settings file {path}: [{name}] {key} is {value}; it must lie in {least:g} to {most:g}")
    # 3 and 3.0 are one setting, and make one pipeline id.
    given = {key: float(value) if type(known[key]) is float else value for key, value in table.items()}
    return replace(default, **given)
