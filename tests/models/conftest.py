"""Made-up wheels and networks for the tests of models."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch_stream import stream_of_state

from edge_claid.errors import MachineError
from edge_claid.models import open_network
from edge_claid.models.cache import cache_home
from edge_claid.models.efficientnet import blocks_of
from edge_claid.models.zoo import Wheel, ZooEntry, entry

CACHE = cache_home()


@pytest.fixture
def real_cache() -> Path:
    """The user's own cache, which holds the embedded networks; the test skips where they cannot be had."""
    try:
        for name in ("dinov2-s14-focus", "efficientnet-lite0"):
            open_network(name, cache_dir=CACHE)
    except MachineError as error:
        pytest.skip(f"the embedded networks cannot be had: {error}")
    return CACHE


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, online."""
    monkeypatch.setenv("EDGE_CLAID_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("EDGE_CLAID_OFFLINE", raising=False)
    return tmp_path / "cache"


def lite_state(width: float, depth: float, seed: int = 0) -> dict[str, np.ndarray]:
    """A random state dict of EfficientNet-Lite whose activations neither vanish nor saturate."""
    generator = np.random.default_rng(seed)
    state = {}

    def layer(name: str, norm: str, shape: tuple[int, ...]) -> None:
        fan = shape[1] * shape[2] * shape[3]
        state[f"{name}.weight"] = generator.normal(0, fan**-0.5, shape).astype(np.float32)
        for part, low, high in (("weight", 1, 2), ("bias", 0, 1), ("running_mean", -0.3, 0.3), ("running_var", 0.5, 2)):
            state[f"{norm}.{part}"] = generator.uniform(low, high, shape[0]).astype(np.float32)

    layer("_conv_stem", "_bn0", (32, 3, 3, 3))
    blocks = blocks_of(width, depth)
    for index, block in enumerate(blocks):
        name, wide = f"_blocks.{index}", block.inputs * block.expansion
        if block.expansion != 1:
            layer(f"{name}._expand_conv", f"{name}._bn0", (wide, block.inputs, 1, 1))
        layer(f"{name}._depthwise_conv", f"{name}._bn1", (wide, 1, block.kernel, block.kernel))
        layer(f"{name}._project_conv", f"{name}._bn2", (block.outputs, wide, 1, 1))
    layer("_conv_head", "_bn1", (1280, blocks[-1].outputs, 1, 1))
    return state


@pytest.fixture(scope="session")
def made_up_wheel(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ZooEntry]:
    """A wheel that holds a random EfficientNet-Lite0 as a legacy torch file, and the zoo entry that pins it."""
    weights = stream_of_state(lite_state(1.0, 1.0))
    folder = tmp_path_factory.mktemp("index")
    path = folder / "made_up_network-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("made_up_network/weights.pth", weights)
        archive.writestr("made_up_network/__init__.py", "raise RuntimeError('a wheel of weights was imported')\n")
        archive.writestr(
            "made_up_network-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: made-up-network\nVersion: 1.0\n"
        )
        archive.writestr(
            "made_up_network-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("made_up_network-1.0.dist-info/RECORD", "")
    wheel = Wheel(
        "made-up-network", "1.0", path.name, hashlib.sha256(path.read_bytes()).hexdigest(),
        "made_up_network/weights.pth", hashlib.sha256(weights).hexdigest(),
    )  # fmt: skip
    return path, replace(entry("efficientnet-lite0"), name="made-up", wheel=wheel, embedded=False)
