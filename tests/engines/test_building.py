"""Building for real with TensorRT for RTX, which needs no GPU to build; what goes wrong is told with its fix."""

from __future__ import annotations

import importlib.util
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_network import SHAPES, save_map_network, small_network, small_pictures, small_recipe, small_settings

from edge_claid.engines import build, builder, cache
from edge_claid.engines.acceptance import Report
from edge_claid.engines.build import Order, build_engine
from edge_claid.engines.builder_process import Request
from edge_claid.engines.memory import OutOfMemoryError, check_room
from edge_claid.engines.opening import try_engine
from edge_claid.engines.pictures import pictures_of, seen_by
from edge_claid.engines.recipe import recipe
from edge_claid.engines.typed import typed_file
from edge_claid.errors import AccuracyError, BuildError, MachineError, StorageError, UsageError
from edge_claid.models import open_network
from edge_claid.runners.engine_file import ENGINE, NOT_VERIFIED, PASSED
from edge_claid.runners.tensorrt_api import flavour

PLENTY = 8 << 30
# For pictures of a quarter of the size, which int8 was not tuned for.
LOOSE = {"token_cosine_mean": 0.98, "token_cosine_least": 0.8, "map_cosine_mean": 0.98, "descriptor_cosine_least": 0.97}


@pytest.fixture(scope="module")
def library():
    try:
        return flavour("tensorrt-rtx")
    except MachineError as error:
        pytest.skip(str(error))


@pytest.fixture
def order(tmp_path, library, monkeypatch):
    network = small_network(save_map_network(tmp_path / "small.onnx"))
    monkeypatch.setattr(build, "seen_by", lambda *_: small_pictures())
    targets, settings = ("sm_86", "sm_120"), small_settings()
    return Order(network, small_recipe(), "fp16", library, targets, settings=settings, cache_dir=tmp_path)


def request_of(onnx_path: Path, folder: Path, **changes) -> Request:
    facts = Request(
        flavour="tensorrt-rtx", onnx=str(onnx_path), engine=str(folder / ENGINE), timing_cache=str(folder / "timing"),
        targets=["sm_86"], shapes={name: list(getattr(SHAPES, name)) for name in ("smallest", "usual", "largest")},
        channels_last=False, workspace_bytes=1 << 28,
    )  # fmt: skip
    return replace(facts, **changes)


def test_an_engine_is_built_tried_as_a_graph_and_found_again(order):
    phases: list[tuple[str, float]] = []
    engine = build_engine(order, lambda phase, share: phases.append((phase, share)))
    assert engine.fresh
    content = (engine.folder / ENGINE).read_bytes()
    assert content[:4] == b"vtrt"
    known = engine.manifest
    assert known.engine_bytes == len(content)
    assert known.compute_capabilities == ["sm_120", "sm_86"]
    assert known.verification["status"] == NOT_VERIFIED
    assert known.verification["graph"]["failures"] == []
    assert known.verification["engine"] is None
    assert known.build_memory_bytes > 50 << 20
    shares = [share for _, share in phases]
    assert shares == sorted(shares)
    assert len({phase for phase, _ in phases}) > 3
    again = build_engine(order)
    assert (again.fresh, again.folder) == (False, engine.folder)
    (engine.folder / ENGINE).write_bytes(content[:-1])
    assert build_engine(order).fresh  # a damaged one is built anew
    assert build_engine(replace(order, force=True)).fresh
    assert len(cache.entries(order.cache_dir)) == 1


@pytest.mark.parametrize("precision", ["fp16", "fp32", "int8"])
@pytest.mark.parametrize("name", ["dinov2-s14-focus", "efficientnet-lite0"])
def test_both_embedded_networks_for_three_generations_of_cards(tmp_path, library, quick_settings, name, precision):
    known = recipe(name)
    if precision not in known.precisions:
        pytest.skip(f"{name} has no {precision}")
    try:
        network = open_network(name, layer=known.layer)
    except MachineError as error:
        pytest.skip(f"{name} cannot be had: {error}")
    targets = ("sm_86", "sm_89", "sm_120")
    loose = {key: value for key, value in LOOSE.items() if getattr(known.gate, key)}
    known = replace(known, gate=replace(known.gate, region_iou=0.0, **loose))
    order = Order(network, known, precision, library, targets, settings=quick_settings, cache_dir=tmp_path)
    engine = build_engine(order)
    weights = network.path.stat().st_size
    assert 0.2 * weights < engine.manifest.engine_bytes < 1.6 * weights
    assert engine.manifest.verification["status"] == NOT_VERIFIED
    assert engine.manifest.verification["graph"]["finite"]


def test_fp8_for_the_cards_that_have_it(tmp_path, library, quick_settings):
    known = recipe("dinov2-s14-focus")
    network = open_network(known.network, layer=known.layer)
    known = replace(known, gate=replace(known.gate, region_iou=0.0, **{**LOOSE, "map_cosine_mean": 0.0}))
    order = Order(network, known, "fp8", library, ("sm_89", "sm_120"), settings=quick_settings, cache_dir=tmp_path)
    engine = build_engine(order)
    assert engine.manifest.engine_bytes < 0.7 * network.path.stat().st_size
    assert engine.manifest.verification["graph"]["token_cosine_mean"] < 0.9999  # it is not float that was tried
    with pytest.raises(UsageError, match="sm_86 cannot multiply fp8"):
        build_engine(replace(order, targets=("sm_86", "sm_89")))


def test_a_graph_that_loses_too_much_is_tried_wider_and_then_refused(order, monkeypatch):
    tried = []
    report = Report(3, True, True, None, None, 0.5, None, None, None, ("map cosine mean is 0.5000, less than 0.99",))

    def failing(asked, path):
        tried.append(path.name)
        return report

    monkeypatch.setattr(build, "try_graph", failing)
    with pytest.raises(AccuracyError, match=r"map cosine mean is 0\.5000.*--precision fp32") as caught:
        build_engine(order)
    assert caught.value.exit_code == 6
    assert len(set(tried)) == 2
    assert cache.entries(order.cache_dir) == []


def test_what_the_gpu_finds_is_in_the_manifest_or_refuses_the_engine(order):
    """The trial on a GPU is handed in; here it is a stand-in that passes the wider engine only."""
    good = Report(3, True, True, None, None, 1.0, 1.0, 1.0, None, ())
    bad = replace(good, map_cosine_mean=0.2, failures=("map cosine mean is 0.2000, less than 0.99",))
    seen = []

    def on_gpu(folder, manifest):
        assert (folder / ENGINE).stat().st_size == manifest.engine_bytes
        seen.append(manifest.wider)
        return good if manifest.wider else bad

    # RTX cannot build for "the GPU at hand" here, so the request still names its targets.
    here = replace(order, here=True)
    original = builder.run_builder

    def with_targets(name, request, allowed, progress):
        return original(name, replace(request, targets=["sm_86"]), allowed, progress)

    build.run_builder = with_targets
    try:
        engine = build_engine(here, try_engine=on_gpu)
        assert seen == [False, True]
        assert engine.manifest.wider
        assert engine.manifest.verification["status"] == PASSED
        assert engine.manifest.verification["engine"]["map_cosine_mean"] == 1.0
        assert len(cache.entries(order.cache_dir)) == 1
        with pytest.raises(AccuracyError, match=r"0\.2000"):
            build_engine(replace(here, force=True), try_engine=lambda folder, manifest: bad)
    finally:
        build.run_builder = original


def test_what_could_not_be_tried_on_the_gpu_at_hand_is_not_built_for_it(order):
    """A build takes minutes; that no PyCUDA is there to try the engine is known before."""
    if importlib.util.find_spec("pycuda"):
        pytest.skip("PyCUDA is here")
    assert try_engine(order) is None
    with pytest.raises(MachineError, match="PyCUDA cannot be loaded"):
        try_engine(replace(order, here=True))


@pytest.mark.parametrize("which", ["network", "typed"])
def test_a_graph_that_was_damaged_on_disk_is_told_as_such(order, which):
    """It is the trial that meets it: ONNX Runtime's word for it, and a build that failed."""
    typed = typed_file(order.network, order.recipe, "fp16", cache_dir=order.cache_dir)
    path = order.network.path if which == "network" else typed
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(BuildError, match=rf"{path.name} cannot be loaded \(\w[^\[]*\): delete it") as caught:
        build_engine(order)
    assert caught.value.exit_code == 5


def test_an_operator_that_onnxruntime_does_not_know_is_named(order):
    typed = typed_file(order.network, order.recipe, "fp16", cache_dir=order.cache_dir)
    model = onnx.load(typed)
    next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Frobnicate"
    onnx.save(model, typed)
    with pytest.raises(BuildError, match="Frobnicate"):
        build_engine(order)


def test_calibration_pictures_that_cannot_be_used_are_told_or_too_few(order, monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(build, "seen_by", seen_by)
    (folder := tmp_path / "own").mkdir()
    asked = replace(order, calibration=folder)
    for number in range(4):
        cv2.imwrite(str(folder / f"{number}.png"), np.random.default_rng(number).integers(0, 255, (40, 60, 3)))
    (folder / "a.jpg").write_bytes(b"no picture")
    with caplog.at_level("WARNING"):
        build_engine(asked)
    (told,) = caplog.messages
    assert "left out of the calibration pictures" in told
    assert "a.jpg: " in told
    (folder / "0.png").write_bytes(b"no picture either")
    with pytest.raises(UsageError, match=r"too few can be used .*: 3, and calibration needs 4"):
        build_engine(replace(asked, force=True))
    for number in range(4):
        cv2.imwrite(str(folder / f"{number}.png"), np.zeros((40, 60, 3)))
    with pytest.raises(UsageError, match=r"holds too few pictures: 2, .* unlike each other"):
        build_engine(replace(asked, force=True))


@pytest.mark.usefixtures("bound_by_permissions")
def test_a_calibration_picture_of_somebody_else_is_named(tmp_path):
    (tmp_path / "0.png").write_bytes(b"x")
    (tmp_path / "0.png").chmod(0)
    with pytest.raises(StorageError, match=r"picture .*0\.png cannot be read \(Permission denied\): change its perm"):
        pictures_of(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no network at all", None])
def test_a_corrupt_graph_is_told(tmp_path, library, content):
    path = save_map_network(tmp_path / "small.onnx")
    path.write_bytes(path.read_bytes()[:300] if content is None else content)
    with pytest.raises(BuildError, match="building small failed") as caught:
        builder.run_builder("small", request_of(path, tmp_path), PLENTY)
    assert caught.value.exit_code == 5
    assert not (tmp_path / ENGINE).exists()


def test_an_unsupported_operator_is_named(tmp_path, library):
    path = save_map_network(tmp_path / "small.onnx", operator="Det")
    with pytest.raises(BuildError, match=r"Det"):
        builder.run_builder("small", request_of(path, tmp_path), PLENTY)


def test_a_target_that_the_library_does_not_know_is_told(tmp_path, library):
    path = save_map_network(tmp_path / "small.onnx")
    with pytest.raises(UsageError, match="does not build for sm_87"):
        builder.run_builder("small", request_of(path, tmp_path, targets=["sm_87"]), PLENTY)


def large_network(path: Path) -> Path:
    """150 MB of weights: its builder takes a while, and memory that a limit is set below."""
    rows = np.ones((6_200, 6_200), np.float32)
    nodes = [helper.make_node("MatMul", ["image", "weight"], ["map"], name="product")]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, "height", 6_200])
    output = helper.make_tensor_value_info("map", TensorProto.FLOAT, ["batch", 3, "height", 6_200])
    graph = helper.make_graph(nodes, "large", [image], [output], [numpy_helper.from_array(rows, "weight")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def test_a_builder_beyond_its_memory_is_ended_with_advice(tmp_path, library):
    shapes = {"smallest": [1, 8, 6_200], "usual": [1, 8, 6_200], "largest": [1, 16, 6_200]}
    request = request_of(large_network(tmp_path / "large.onnx"), tmp_path, shapes=shapes)
    with pytest.raises(
        OutOfMemoryError, match=r"ran out of memory .*200 MB were allowed.*close what else runs"
    ) as caught:
        builder.run_builder("large", request, 200 << 20)
    assert caught.value.exit_code == 5
    assert not (tmp_path / ENGINE).exists()


def test_too_little_memory_is_told_before_anything_starts():
    with pytest.raises(OutOfMemoryError, match=r"needs about 2,000 MB, 100 MB are allowed: give --memory 2000"):
        check_room("small", 2000 << 20, 100 << 20)
    with pytest.raises(OutOfMemoryError, match=r"MB are free: close what else runs"):
        check_room("small", 1 << 50)
    assert check_room("small", 10 << 20, 100 << 20) == 100 << 20


def test_a_builder_killed_by_the_system_is_told_as_short_of_memory(tmp_path, library, monkeypatch):
    path, processes = save_map_network(tmp_path / "small.onnx"), []
    original = builder._Watch.__init__

    def remember(self, child, allowed):
        original(self, child, allowed)
        processes.append(child)
        threading.Timer(0.05, os.kill, (child.pid, signal.SIGKILL)).start()

    monkeypatch.setattr(builder._Watch, "__init__", remember)
    with pytest.raises(OutOfMemoryError, match="the system or the GPU had none left"):
        builder.run_builder("small", request_of(path, tmp_path), PLENTY)
    assert processes[0].returncode == -signal.SIGKILL


def test_a_builder_that_falls_over_is_told_with_its_last_words(tmp_path, library, monkeypatch):
    monkeypatch.setattr(builder.sys, "executable", "/bin/false")
    with pytest.raises(BuildError, match="the builder ended with 1"):
        builder.run_builder("small", request_of(tmp_path / "none", tmp_path), PLENTY)
