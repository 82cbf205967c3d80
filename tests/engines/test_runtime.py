"""What runs the networks: the choice, and a whole pipeline over engines on the recorded interface (not TensorRT)."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from recorded_tensorrt import HostDevice, recorded_flavour, write_engine

from edge_claid.config import NetworkSettings, Settings, load_settings
from edge_claid.engines import opening, runtime, upkeep
from edge_claid.engines.pictures import own_pictures
from edge_claid.engines.recipe import recipe
from edge_claid.engines.runtime import Choice, choose_runtime, network_files, open_networks
from edge_claid.engines.typed import graph_id, typed_file
from edge_claid.errors import AccuracyError, EngineError, MachineError, UsageError
from edge_claid.frames.reading import read_picture
from edge_claid.models import open_network
from edge_claid.models.cache import cache_home
from edge_claid.pipeline import Pipeline
from edge_claid.records import Frame
from edge_claid.runners import tensorrt_api
from edge_claid.runners.cuda_driver import Driver, Gpu
from edge_claid.runners.engine_file import FAILED, NOT_VERIFIED, PASSED, read_manifest

ORIN = Driver("12.6", (Gpu(0, "Orin", "sm_87", 8 << 30, None, True),))
NO_GPU = Driver("", (), "there is no NVIDIA driver on this machine (no libcuda.so.1)")
NAMES = ("dinov2-s14-focus", "efficientnet-lite0")


class LendingDevice(HostDevice):
    """A HostDevice in a ``with`` block."""

    def __enter__(self) -> LendingDevice:
        return self

    def __exit__(self, *_: object) -> None:
        assert not self.live, "memory of the device was not given back"


@pytest.fixture
def orin(tmp_path, monkeypatch):
    """A machine with a GPU and the recorded interface; its cache, which has the networks and no engines."""
    (tmp_path / "models").symlink_to(cache_home() / "models")
    library = recorded_flavour()
    monkeypatch.setattr(runtime, "driver", lambda: ORIN)
    monkeypatch.setattr(upkeep, "flavour", lambda name: library)
    monkeypatch.setattr(tensorrt_api, "flavour", lambda name: library)
    monkeypatch.setattr(opening, "pictures_of", lambda folder: own_pictures()[::3])
    monkeypatch.setattr(runtime, "_gpu", lambda cache_dir: LendingDevice())
    return tmp_path


def put(
    cache_dir: Path,
    name: str,
    precision: str = "fp32",
    *,
    folder: str | None = None,
    graph_of_layer: int | None = None,
    **changes,
):
    """The typed graph of a network as its engine. The graph is float32's, whatever precision is written.

    graph_of_layer: the engine gives another token layer than its manifest says.
    """
    known = recipe(name)
    network = open_network(name, layer=known.layer, cache_dir=cache_dir)
    facts = {
        "network": name, "layer": known.layer, "precision": precision, "outputs": list(known.outputs),
        "shapes": {"smallest": [1, 32, 32], "usual": [1, 224, 224], "largest": [1, 448, 448]},
        "graph": graph_id(network.source_sha256, known, precision), "verification": {"status": PASSED},
    }  # fmt: skip
    if graph_of_layer is not None:
        network = open_network(name, layer=graph_of_layer, cache_dir=cache_dir)
    graph = typed_file(network, known, "fp32", cache_dir=cache_dir)
    return write_engine(cache_dir / "engines" / (folder or f"{name}-{precision}"), graph, **(facts | changes))


def with_runtime(name: str, plain: Settings | None = None, **changes) -> Settings:
    plain = plain or Settings()
    return replace(plain, networks=replace(plain.networks, runtime=name, **changes))


def test_without_a_gpu_the_cpu_serves_unless_engines_were_asked_for(tmp_path):
    assert choose_runtime(NetworkSettings(), tmp_path, NO_GPU) == Choice("onnx", asked=False)
    with pytest.raises(MachineError, match=r"no NVIDIA driver.*take the runtime auto or onnx"):
        choose_runtime(NetworkSettings(runtime="tensorrt"), tmp_path, NO_GPU)
    with pytest.raises(UsageError, match="'cuda': choose auto, onnx"):
        choose_runtime(NetworkSettings(runtime="cuda"), tmp_path, NO_GPU)


def test_a_runtime_that_was_named_is_never_replaced(tmp_path):
    assert choose_runtime(NetworkSettings(runtime="onnx"), tmp_path, ORIN).name == "onnx"
    with pytest.raises(MachineError, match="no CUDAExecutionProvider"), Pipeline.open(with_runtime("onnx-cuda")):
        pass


def test_the_environment_stands_for_the_file(tmp_path, monkeypatch):
    file = tmp_path / "config.toml"
    file.write_text('[networks]\nruntime = "onnx"\n')
    assert load_settings(file).networks.runtime == "onnx"
    monkeypatch.setenv("EDGE_CLAID_RUNTIME", "tensorrt")
    assert load_settings(file).networks.runtime == "tensorrt"


def test_a_missing_engine_is_told_with_the_command(orin):
    with pytest.raises(EngineError, match=r"no engine of dinov2.*build-engines --model dinov2-s14-focus`") as caught:
        Pipeline.open(with_runtime("tensorrt"), cache_dir=orin)
    assert caught.value.exit_code == 4
    put(orin, NAMES[0], version="9.9")
    with pytest.raises(EngineError, match=r"built with tensorrt 9\.9.*running here is tensorrt 10\.3"):
        Pipeline.open(with_runtime("tensorrt"), cache_dir=orin)
    put(orin, NAMES[0])
    with pytest.raises(EngineError, match="no engine of efficientnet-lite0"):
        Pipeline.open(with_runtime("tensorrt"), cache_dir=orin)
    chosen = choose_runtime(NetworkSettings(), orin, ORIN)
    assert (chosen.name, chosen.asked) == ("onnx", False)
    assert "no engine of efficientnet-lite0" in chosen.given_up


def test_of_several_engines_the_recipes_first_precision_and_the_tried_one_are_taken(orin):
    for name in NAMES:
        put(orin, name, "fp32")
        put(orin, name, "fp16", folder=f"{name}-0", verification={"status": NOT_VERIFIED})
        put(orin, name, "fp16", folder=f"{name}-1")
    plain = NetworkSettings()
    chosen = choose_runtime(plain, orin, ORIN)
    assert [state.entry.folder.name for state in chosen.engines] == [f"{name}-1" for name in NAMES]
    assert chosen.told == "tensorrt 10.3.0 at fp16"
    wide = choose_runtime(replace(plain, engine_precision="fp32"), orin, ORIN)
    assert wide.told == "tensorrt 10.3.0 at fp32"
    with pytest.raises(EngineError, match="--precision int8"):
        choose_runtime(replace(plain, engine_precision="int8", runtime="tensorrt"), orin, ORIN)
    # Another token layer is another network.
    assert choose_runtime(replace(plain, token_layer=7), orin, ORIN).name == "onnx"


def test_an_engine_that_was_never_tried_is_tried_by_the_pipeline_before_its_first_answer(orin, quick_settings, caplog):
    for name in NAMES:
        put(orin, name, verification={"status": NOT_VERIFIED})
    caplog.set_level(logging.INFO, "edge_claid.engines")
    picture = str(own_pictures()[0])
    with Pipeline.open(with_runtime("auto", quick_settings), cache_dir=orin) as pipeline:
        described = pipeline.describe_regions(read_picture(picture))
        identity, told = pipeline.id, pipeline.running.told
    for name in NAMES:
        tried = read_manifest(orin / "engines" / f"{name}-fp32").verification
        assert tried["status"] == PASSED
        assert tried["engine"]["pictures"] == 3
    assert told == "tensorrt 10.3.0 at fp32 on sm_87"
    assert f"the networks are run by {told}" in caplog.text
    on_cpu = with_runtime("onnx", quick_settings, vit_variant="fp32")
    with Pipeline.open(on_cpu, cache_dir=orin) as pipeline:
        wanted = pipeline.describe_regions(read_picture(picture))
        assert pipeline.id == identity
    assert len(described.regions) == len(wanted.regions) > 3
    np.testing.assert_allclose(described.descriptors.values, wanted.descriptors.values, atol=2e-3)


def test_an_engine_that_fails_is_told_and_replaced_only_where_it_was_not_asked_for(orin, quick_settings, caplog):
    put(orin, NAMES[1])
    put(orin, NAMES[0], graph_of_layer=0, verification={"status": NOT_VERIFIED})
    named = Pipeline.open(with_runtime("tensorrt", quick_settings), cache_dir=orin)
    with pytest.raises(AccuracyError, match=r"token cosine mean is .*--precision fp32") as caught, named:
        pass
    assert caught.value.exit_code == 6
    assert read_manifest(orin / "engines" / f"{NAMES[0]}-fp32").verification["status"] == FAILED
    with pytest.raises(EngineError, match=r"failed the acceptance test \(token cosine mean is"):
        Pipeline.open(with_runtime("tensorrt", quick_settings), cache_dir=orin)
    with Pipeline.open(with_runtime("auto", quick_settings), cache_dir=orin) as pipeline:
        assert pipeline.running.told.endswith("on the CPU")
    assert "until then the networks run on the CPU" in caplog.text


def test_engines_that_do_not_open_are_replaced_aloud_or_not_at_all(orin, quick_settings, caplog):
    for name in NAMES:
        put(orin, name)

    def without_memory(cache_dir):
        raise MachineError("PyCUDA cannot be loaded: pip install pycuda")

    for asked in (True, False):
        chosen = replace(choose_runtime(quick_settings.networks, orin, ORIN), asked=asked)
        files = network_files(quick_settings.networks, chosen, orin)
        opening = open_networks(quick_settings, files, chosen, 2, orin, without_memory)
        if asked:
            with pytest.raises(MachineError, match="pip install pycuda"), opening:
                pass
            continue
        with opening as networks:
            assert networks.told.endswith("on the CPU")
            assert networks.vit_file.variant == "int8"
            assert networks.workers == 2
    assert "pip install pycuda; until then" in caplog.text


def test_many_threads_share_an_engine_one_at_a_time_and_odd_shapes_run_on_the_cpu(orin, quick_settings, caplog):
    for name in NAMES:
        put(orin, name)
    rng = np.random.default_rng(0)
    thin = Frame(rng.integers(0, 256, (40, 600, 3), np.uint8), "thin")  # 546 x 42 for the ViT at this size
    frames = [Frame(rng.integers(0, 256, (90, 120, 3), np.uint8), str(n)) for n in range(4)]
    with Pipeline.open(with_runtime("tensorrt", quick_settings), cache_dir=orin, threads=16) as pipeline:
        assert pipeline.running.workers == 4
        together = list(pipeline.describe_many(frames))
        assert len(pipeline.running.device.threads - {threading.get_ident()}) > 1
        alone = [pipeline.describe_regions(frame) for frame in frames]
        caplog.clear()
        tokens = pipeline.tokens(thin)
        pipeline.tokens(thin)
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one.descriptors.values, other.descriptors.values)
    assert not np.allclose(alone[0].descriptors.values[0], alone[1].descriptors.values[0], atol=1e-4)
    assert caplog.text.count("is more than the engine of dinov2-s14-focus takes") == 1
    on_cpu = with_runtime("onnx", quick_settings, vit_variant="fp32")
    with Pipeline.open(on_cpu, cache_dir=orin) as pipeline:
        np.testing.assert_allclose(tokens.features, pipeline.tokens(thin).features, atol=2e-3)
