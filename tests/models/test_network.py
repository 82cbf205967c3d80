"""The zoo's table, and networks built of made-up weights."""

from __future__ import annotations

import multiprocessing
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edge_claid.errors import MachineError, UsageError
from edge_claid.models import network as network_module
from edge_claid.models import open_network
from edge_claid.models.fetch import import_wheel
from edge_claid.models.network import is_here
from edge_claid.models.zoo import entry, zoo


@pytest.fixture
def made_up(made_up_wheel, monkeypatch):
    """The made-up network in the zoo and its weights in the cache."""
    path, known = made_up_wheel
    monkeypatch.setitem(zoo(), "made-up", known)
    import_wheel(path, known)
    return known


@pytest.mark.parametrize("name", zoo())
def test_the_table_is_whole(name):
    known = entry(name)
    assert known.layer in known.layers
    assert known.output in ("tokens", "map")
    assert "fp32" in known.variants
    assert len(known.mean) == len(known.std) == 3
    assert known.licence
    assert set(known.layer_dims) | set(known.layer_strides) <= set(known.layers)
    if known.wheel:
        assert {len(known.wheel.sha256), len(known.wheel.member_sha256)} == {64}
        assert known.wheel.version in known.wheel.file
    else:
        assert known.build["timm"]


def test_two_networks_are_embedded_and_come_in_wheels():
    embedded = [known for known in zoo().values() if known.embedded]
    assert [known.name for known in embedded] == ["dinov2-s14-focus", "efficientnet-lite0"]
    assert all(known.wheel for known in embedded)


def test_mean_tokens_are_those_of_the_layer():
    known = entry("dinov2-s14-focus")
    tokens = [known.mean_token(layer) for layer in (0, 8, 11, -1)]
    assert all(token.shape == (384,) and token.dtype == np.float32 and np.isfinite(token).all() for token in tokens)
    norms = [float(np.linalg.norm(token)) for token in tokens]
    assert norms[3] > 5 * norms[1] > 0  # only the end is normalised to the scale of its weights
    assert entry("efficientnet-lite0").mean_token(32) is None


def test_open_builds_once_and_describes_the_file(made_up, monkeypatch):
    first = open_network("made-up")
    assert (first.stride, first.feature_dim, first.output, first.layer) == (32, 1280, "map", 32)
    assert first.source_sha256 == made_up.wheel.member_sha256
    assert first.mean.dtype == np.float32
    np.testing.assert_array_equal(first.mean, [0.5, 0.5, 0.5])
    output = onnxruntime.InferenceSession(first.path).run(None, {"image": np.zeros((2, 3, 64, 96), np.float32)})[0]
    assert output.shape == (2, 1280, 2, 3)
    monkeypatch.setattr(network_module, "_build", lambda *arguments: pytest.fail("built twice"))
    assert open_network("made-up").path == first.path


def test_layers_and_builder_versions_have_files_of_their_own(made_up, monkeypatch):
    head, stage = open_network("made-up"), open_network("made-up", layer=16)
    assert head.path != stage.path
    assert (stage.stride, stage.feature_dim, stage.input_multiple) == (16, 112, 32)
    monkeypatch.setattr(network_module, "BUILDER_VERSION", -1)
    assert open_network("made-up").path not in (head.path, stage.path)


def test_a_failed_build_leaves_nothing_and_can_be_repeated(made_up, monkeypatch, own_cache: Path):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(network_module, "efficientnet_lite_onnx", interrupted)
        with pytest.raises(KeyboardInterrupt):
            open_network("made-up")
    assert not list(own_cache.rglob("made-up*.onnx"))
    assert open_network("made-up").path.is_file()


def _open_in_process(arguments) -> bytes:
    known, cache = arguments
    zoo()["made-up"] = known
    return open_network("made-up", cache_dir=cache).path.read_bytes()


def test_two_processes_building_at_once_give_one_whole_file(made_up, own_cache: Path):
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        contents = set(pool.map(_open_in_process, [(made_up, own_cache)] * 3))
    assert len(contents) == 1
    assert len(list(own_cache.rglob("*.onnx"))) == 1
    assert not list(own_cache.rglob("*.part"))


def test_wrong_names_layers_and_variants_name_the_right_ones(made_up):
    with pytest.raises(UsageError, match="choose one of dinov2-s14-focus"):
        open_network("nonsense")
    with pytest.raises(UsageError, match="choose one of 16, 32"):
        open_network("made-up", layer=8)
    with pytest.raises(UsageError, match="choose fp32"):
        open_network("made-up", variant="int8")


def test_is_here(made_up, own_cache: Path):
    assert is_here(made_up)
    shutil.rmtree(own_cache)
    assert not is_here(made_up)
    assert not is_here(entry("resnet18"))


def test_an_unexported_network_names_the_commands():
    with pytest.raises(MachineError, match=r"models export resnet18.*models import"):
        open_network("resnet18")
