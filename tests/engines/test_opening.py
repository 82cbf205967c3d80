"""Engines opened to be used: found, tried before first use, refused where they lie; on the recorded interface."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from recorded_tensorrt import HostDevice, recorded_flavour, write_engine
from small_network import save_map_network, small_network, small_pictures, small_recipe, small_settings

from edge_claid.engines import opening, upkeep
from edge_claid.engines.opening import Wanted, open_engine, without_normalisation
from edge_claid.engines.typed import graph_id, typed_file
from edge_claid.errors import AccuracyError, EngineError
from edge_claid.network_input import network_input
from edge_claid.runners.cuda_driver import Driver, Gpu
from edge_claid.runners.engine_file import FAILED, PASSED, read_manifest


@pytest.fixture
def wanted(tmp_path, monkeypatch):
    network = small_network(save_map_network(tmp_path / "small.onnx"))
    monkeypatch.setattr(opening, "seen_by", lambda *_: small_pictures())
    return Wanted(
        network, small_recipe(), "fp16", HostDevice(), recorded_flavour(), small_settings(), cache_dir=tmp_path
    )


def put(wanted: Wanted, graph_of=None, **changes):
    """The typed graph of the wanted network, or of another, as its engine."""
    graph = typed_file(graph_of or wanted.network, wanted.recipe, "fp16", cache_dir=wanted.cache_dir)
    identity = graph_id(wanted.network.source_sha256, wanted.recipe, "fp16")
    folder = wanted.cache_dir / "engines" / "k1"
    write_engine(folder, graph, **({"graph": identity} | changes))
    return folder


def open_and_close(wanted):
    with open_engine(wanted):
        pass


def test_the_first_use_tries_the_engine_and_keeps_the_report(wanted):
    folder = put(wanted)
    batch = np.random.default_rng(0).uniform(0, 255, (1, 3, 32, 32)).astype(np.float32)
    with open_engine(wanted) as runner:
        assert runner.run(batch).shape == (1, 8, 4, 4)
    known = read_manifest(folder).verification
    assert known["status"] == PASSED
    assert known["engine"]["pictures"] == 3
    assert known["engine"]["map_cosine_mean"] > 0.999
    content = (folder / "manifest.json").read_bytes()
    open_and_close(wanted)
    assert (folder / "manifest.json").read_bytes() == content
    assert not wanted.device.live


def test_an_engine_that_fails_is_refused_now_and_later(wanted, tmp_path):
    other = save_map_network(tmp_path / "other.onnx", operator="Neg")
    folder = put(wanted, graph_of=replace(small_network(other), source_sha256="5" * 64))
    for _ in range(2):
        with pytest.raises(AccuracyError, match=r"map cosine mean is .*--precision fp32") as caught:
            open_and_close(wanted)
        assert caught.value.exit_code == 6
        assert read_manifest(folder).verification["status"] == FAILED


def test_no_engine_is_told_with_the_command(wanted):
    with pytest.raises(EngineError, match="build-engines --model small --precision fp16") as caught:
        open_and_close(wanted)
    assert caught.value.exit_code == 4


def test_an_engine_of_another_version_is_told_with_both_sides(wanted):
    put(wanted, version="10.16.1")
    with pytest.raises(EngineError, match=r"built with tensorrt 10\.16\.1.*running here is tensorrt 10\.3\.0"):
        open_and_close(wanted)


def test_an_engine_of_an_older_recipe_is_told(wanted):
    put(wanted, graph="9" * 16)
    with pytest.raises(EngineError, match="another recipe or network"):
        open_and_close(wanted)


def test_who_prepares_the_input_of_an_engine_leaves_pixels_as_they_are(wanted):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    planes = network_input(pixels, (24, 16), without_normalisation(wanted.network))
    np.testing.assert_allclose(planes[0], pixels.transpose(2, 0, 1), atol=1e-4)


def test_states_tell_what_an_engine_is_good_for(wanted, monkeypatch):
    """The network is one of the zoo here, as recipes of others are not known."""
    monkeypatch.setattr(upkeep, "is_current", lambda manifest, cache_dir=None: manifest.layer == 8)
    monkeypatch.setattr(upkeep, "flavour", lambda name: wanted.library)
    here = Driver("12.6", (Gpu(0, "Orin", "sm_87", 8 << 30, None, True),))
    folder = put(wanted)

    def state(driver=here):
        (found,) = upkeep.states(wanted.cache_dir, driver)
        return found.state, found.reason

    assert state() == (upkeep.RUNS, "")
    assert state(Driver("", (), "there is no driver")) == (upkeep.ELSEWHERE, "there is no driver")
    put(wanted, version="9")
    assert state()[0] == upkeep.ELSEWHERE
    assert "built with tensorrt 9" in state()[1]
    put(wanted, layer=7)
    assert state()[0] == upkeep.STALE
    assert [path for path, _ in upkeep.prunable(wanted.cache_dir)] == [folder]
    (folder / "manifest.json").write_text("{")
    assert state()[0] == upkeep.DAMAGED
    upkeep.remove([path for path, _ in upkeep.prunable(wanted.cache_dir)])
    assert upkeep.states(wanted.cache_dir, here) == []


def test_pruning_compares_every_byte_and_follows_no_link(wanted, tmp_path, monkeypatch):
    monkeypatch.setattr(upkeep, "is_current", lambda manifest, cache_dir=None: True)
    folder = put(wanted)
    assert upkeep.prunable(wanted.cache_dir) == []
    content = bytearray((folder / "model.engine").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.engine").write_bytes(content)
    (outside := tmp_path / "outside").mkdir()
    (outside / "precious").write_bytes(b"x")
    (folder.parent / "k2").symlink_to(outside)
    going = dict(upkeep.prunable(wanted.cache_dir))
    assert set(going) == {folder, folder.parent / "k2"}
    assert "is not the file that was built" in going[folder]
    upkeep.remove(list(going))
    assert list(folder.parent.iterdir()) == []
    assert (outside / "precious").exists()
