"""The cache of engines holds whole engines or none, whoever is killed, and says why it cannot be written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from recorded_tensorrt import write_engine
from small_network import SHAPES, save_map_network

from edge_claid.engines import cache
from edge_claid.engines.recipe import Shapes
from edge_claid.errors import EngineError, StorageError
from edge_claid.runners.engine_file import ENGINE, MANIFEST, Running, read_manifest

FACTS = ("a" * 64, "tensorrt", "10.3.0", "12.6", ("sm_87",), "fp16", SHAPES)


@pytest.fixture
def onnx(tmp_path):
    return save_map_network(tmp_path / "small.onnx")


def put(place: Path, onnx: Path, key: str, **changes) -> Path:
    with cache.building(key, lambda: None, place) as staging:
        return cache.install(staging, write_engine(staging, onnx, key=key, **changes))


@pytest.mark.parametrize("position", range(7))
def test_another_of_anything_is_another_engine(position):
    shapes = Shapes((1, 8, 8), (1, 32, 32), (2, 64, 64))
    others = ("b" * 64, "tensorrt-rtx", "10.3.1", "13.0", ("sm_86",), "fp32", shapes)
    changed = list(FACTS)
    changed[position] = others[position]
    assert cache.engine_key(*FACTS) == cache.engine_key(*FACTS)
    assert cache.engine_key(*changed) != cache.engine_key(*FACTS)
    assert len(cache.engine_key(*FACTS)) == 16


def test_the_order_of_targets_does_not_matter():
    keys = {cache.engine_key(*FACTS[:4], targets, *FACTS[5:]) for targets in (("sm_86", "sm_89"), ("sm_89", "sm_86"))}
    assert len(keys) == 1


def test_an_engine_is_found_by_what_it_fits(tmp_path, onnx):
    first = put(tmp_path, onnx, "k1", compute_capabilities=["sm_86", "sm_89"])
    put(tmp_path, onnx, "k2", version="10.4.0")
    here = Running("tensorrt", "10.3.0", "12.6", "sm_89")
    found, others = cache.matching("small", "fp16", ["1" * 16], here, tmp_path)
    assert found is not None
    assert found.folder == first
    assert [other.folder.name for other in others] == ["k2"]
    assert cache.matching("small", "fp16", ["9" * 16], here, tmp_path)[0] is None
    assert cache.matching("small", "fp32", ["1" * 16], here, tmp_path) == (None, [])


def test_a_new_engine_takes_the_place_of_the_old_at_once(tmp_path, onnx):
    folder = put(tmp_path, onnx, "k1")
    put(tmp_path, onnx, "k1", build_seconds=2.5)
    assert read_manifest(folder).build_seconds == 2.5
    assert [entry.folder.name for entry in cache.entries(tmp_path)] == ["k1"]
    assert cache.leftovers(tmp_path) == []


def test_a_build_that_fails_leaves_nothing(tmp_path):
    def fail():
        with cache.building("k1", lambda: None, tmp_path) as staging:
            (staging / ENGINE).write_bytes(b"half")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert cache.entries(tmp_path) == []
    assert cache.leftovers(tmp_path) == []


BUILD = """
import sys
from pathlib import Path
from edge_claid.engines import cache
with cache.building("k1", lambda: print("waiting", flush=True), Path(sys.argv[1])) as staging:
    (staging / "model.engine").write_bytes(b"half")
    print("building", flush=True)
    sys.stdin.readline()
"""


def build_elsewhere(place: Path) -> subprocess.Popen[str]:
    """A process that is in the midst of a build until its stdin is closed."""
    command = [sys.executable, "-c", BUILD, str(place)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_build_that_is_killed_leaves_no_half_engine(tmp_path, onnx):
    child = build_elsewhere(tmp_path)
    assert child.stdout is not None
    assert child.stdout.readline() == "building\n"
    assert cache.leftovers(tmp_path) == []  # of a build that goes on
    assert cache.entries(tmp_path) == []
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert cache.entries(tmp_path) == []
    assert len(cache.leftovers(tmp_path)) == 1
    put(tmp_path, onnx, "k1")
    assert cache.leftovers(tmp_path) == []
    assert len(cache.entries(tmp_path)) == 1


def test_of_two_builds_at_once_one_waits_and_says_so(tmp_path):
    first = build_elsewhere(tmp_path)
    assert first.stdout is not None
    assert first.stdout.readline() == "building\n"
    second = build_elsewhere(tmp_path)
    assert second.stdout is not None
    assert second.stdout.readline() == "waiting\n"
    first.communicate()
    assert second.communicate()[0] == "building\n"
    assert (first.returncode, second.returncode) == (0, 0)


def test_a_cache_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="EDGE_CLAID_CACHE_DIR") as caught:
        cache.engines_folder(tmp_path / "file")
    assert caught.value.exit_code == 9


@pytest.mark.parametrize("damage", ["manifest", "engine", "short", "no manifest"])
def test_damaged_engines_are_listed_as_such(tmp_path, onnx, damage):
    folder = put(tmp_path, onnx, "k1")
    if damage == "manifest":
        (folder / MANIFEST).write_text("{")
    elif damage == "no manifest":
        (folder / MANIFEST).unlink()
    elif damage == "short":
        (folder / ENGINE).write_bytes(b"x")
    else:
        content = bytearray((folder / ENGINE).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / ENGINE).write_bytes(content)
    (entry,) = cache.entries(tmp_path)
    if damage == "engine":  # of the right size: only reading every byte tells
        assert entry.manifest is not None
        with pytest.raises(EngineError):
            cache.verified_bytes(folder, entry.manifest)
    else:
        assert entry.manifest is None
        assert str(folder) in entry.problem


def test_a_clock_set_back_decides_nothing(tmp_path, onnx):
    """An engine from the future, and files older than anything, are engines like others."""
    folder = put(tmp_path, onnx, "k1", built="2099-01-01T00:00:00+00:00")
    for path in (folder, *folder.iterdir()):
        os.utime(path, (1.0, 1.0))
    put(tmp_path, onnx, "k2", built="1970-01-01T00:00:00+00:00", version="9")
    here = Running("tensorrt", "10.3.0", "12.6", "sm_87")
    found, _ = cache.matching("small", "fp16", ["1" * 16], here, tmp_path)
    assert found is not None
    assert found.folder == folder
    assert json.loads((folder / MANIFEST).read_text())["built"].startswith("2099")
