"""Building with TensorRT 10 and 11: names and signatures are those of NVIDIA's bindings, what they do is recorded.

The versions are those of JetPack 6 and 7 and the newest. TensorRT for RTX builds for real in test_building.py.
"""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest
from recorded_builder import TIMINGS, RecordedBuilder
from small_network import SHAPES, save_map_network
from strict_tensorrt import TABLES, StrictModule

from edge_claid.engines import builder_process
from edge_claid.engines.builder_process import Request, build
from edge_claid.errors import BuildError, MachineError, StorageError, UsageError
from edge_claid.runners.tensorrt_api import Flavour

VERSIONS = [key for key in TABLES if key.startswith("tensorrt ")]


@pytest.fixture
def request_(tmp_path):
    onnx = save_map_network(tmp_path / "small.onnx")
    return Request(
        flavour="tensorrt", onnx=str(onnx), engine=str(tmp_path / "model.engine"), channels_last=False,
        timing_cache=str(tmp_path / "timing.cache"), targets=[], workspace_bytes=1 << 28,
        shapes={name: list(getattr(SHAPES, name)) for name in ("smallest", "usual", "largest")},
    )  # fmt: skip


@pytest.fixture
def playing(monkeypatch):
    """Puts a recorded builder behind the interface of a version."""

    def play(recorded, version=VERSIONS[0]):
        name, number = version.split()
        library = Flavour(name, StrictModule(version, recorded), number, "12.6")
        monkeypatch.setattr(builder_process, "flavour", lambda asked: library)
        return recorded

    return play


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_is_asked_for_the_same(request_, playing, tmp_path, version):
    recorded, lines = playing(RecordedBuilder(), version), []
    build(request_, lines.append)
    assert (tmp_path / "model.engine").read_bytes() == (tmp_path / "small.onnx").read_bytes()
    assert recorded.flags == 1 << TABLES[version]["NetworkDefinitionCreationFlag"]["STRONGLY_TYPED"]
    assert recorded.profile == ("image", (1, 3, 16, 16), (1, 3, 32, 32), (2, 3, 64, 64))
    assert (recorded.limits, recorded.cleared) == ({"WORKSPACE": 1 << 28}, ["TF32"])
    assert (tmp_path / "timing.cache").read_bytes() == TIMINGS
    assert {line["phase"] for line in lines} == {"Building Engine", "Tactics"}
    assert lines[0] == {"phase": "Building Engine", "parent": None, "step": 0, "steps": 2}
    build(replace(request_, channels_last=True), lines.append)
    assert recorded.profile[1] == (1, 16, 16, 3)


def test_timings_of_an_earlier_build_are_used_and_useless_ones_replaced(request_, playing, tmp_path):
    recorded = playing(RecordedBuilder())
    for known, tried in ((TIMINGS, [TIMINGS]), (b"of another GPU", [b"of another GPU", b""])):
        (tmp_path / "timing.cache").write_bytes(known)
        recorded.tried.clear()
        build(request_, lambda line: None)
        assert recorded.tried == tried
        assert recorded.timings is recorded


@pytest.mark.parametrize(
    ("failing", "says", "kind", "told"),
    [
        ("Builder", "CUDA initialization failure with error: 35", MachineError, r"tensorrt 10.*start.*35\).*doctor"),
        ("parse", "", BuildError, r"no such operator \(operator Det, node turn\)"),
        ("parse", "not an ONNX file", BuildError, "cannot be used: not an ONNX file"),
        ("add_optimization_profile", "image has 3 dimensions", BuildError, r"shapes .*\(image has 3 dimensions\)"),
        ("build_serialized_network", "no implementation for node product", BuildError, "no implementation for node"),
        ("build_serialized_network", "", BuildError, "the library gave no engine"),
    ],
)
def test_what_the_library_refuses_is_told_in_its_words(request_, playing, tmp_path, failing, says, kind, told):
    playing(RecordedBuilder(failing, says))
    (tmp_path / "timing.cache").write_bytes(b"useless")  # which is complained of, and is not the reason
    with pytest.raises(kind, match=told):
        build(request_, lambda line: None)
    assert not (tmp_path / "model.engine").exists()


def test_a_disk_that_is_full_is_told_as_such(request_, playing, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    playing(RecordedBuilder())
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match=r"no space left for .*model\.engine: free some") as caught:
        build(request_, lambda line: None)
    assert caught.value.exit_code == 9


def test_tensorrt_builds_for_the_gpu_at_hand_only(request_, playing):
    playing(RecordedBuilder())
    with pytest.raises(UsageError, match="use tensorrt-rtx"):
        build(replace(request_, targets=["sm_86"]), lambda line: None)


def test_the_table_is_what_the_bindings_here_say():
    """Of the bindings that are installed: the table was not made up."""
    bindings = pytest.importorskip("tensorrt_rtx_bindings")
    version = f"tensorrt-rtx {bindings.__version__}"
    if version not in TABLES:
        pytest.skip(f"no table of {version}: run tools/tensorrt_interface.py")
    for name, members in TABLES[version].items():
        kind = bindings
        for part in name.split("."):
            kind = getattr(kind, part)
        for member, told in members.items():
            found = getattr(kind, member)
            if isinstance(told, int):
                assert int(found) == told
            elif told == "property":
                assert isinstance(found, property)
            else:
                for parameters, _ in told:
                    assert all(parameter.partition(" = ")[0] in found.__doc__.replace(
                        f"{bindings.ILogger.__module__}.", "") for parameter in parameters)  # fmt: skip
