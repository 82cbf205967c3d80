"""Typed graphs compute what the network computes, from pixels, at the precision they are named by."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from small_network import save_map_network, small_network, small_pictures, small_recipe

from edge_claid.engines.acceptance import compare, float32_run
from edge_claid.engines.pictures import own_pictures, planes_of, seen_by
from edge_claid.engines.recipe import recipe, recipe_names
from edge_claid.engines.typed import graph_id, typed_file, typed_onnx
from edge_claid.errors import BuildError, MachineError
from edge_claid.models import open_network
from edge_claid.runners.onnx_runner import OnnxRunner


def run(model: onnx.ModelProto, batch: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"image": batch})


@pytest.mark.parametrize("source", ["planes", "pixels"])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("fp16", 5e-3)])
def test_normalisation_and_layout_are_in_the_graph(tmp_path, source, precision, tolerance):
    network = small_network(save_map_network(tmp_path / "small.onnx"))
    seen = small_pictures(1)[0]
    normalised = (seen.pixels / 255.0 - network.mean) / network.std
    batch = np.ascontiguousarray(normalised.transpose(2, 0, 1)[None], dtype=np.float32)
    (expected,) = run(onnx.load(network.path), batch)
    model = typed_onnx(network, small_recipe(input=source), precision)
    (found,) = run(model, planes_of(seen, source))
    assert found.dtype == np.float32
    assert expected.max() > 0.1
    np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max())


def test_half_keeps_what_the_recipe_names_in_float32(tmp_path):
    network = small_network(save_map_network(tmp_path / "small.onnx"))
    plain, wider = (typed_onnx(network, small_recipe(), "fp16", wider=wide) for wide in (False, True))
    kinds = [Counter(value.data_type for value in model.graph.initializer) for model in (plain, wider)]
    assert all(kind[onnx.TensorProto.FLOAT16] == 1 for kind in kinds)
    # With Relu in float32 its input is cast back first.
    casts = [[node.op_type for node in model.graph.node].count("Cast") for model in (plain, wider)]
    activation = next(node for node in wider.graph.node if node.op_type == "Relu")
    types = {v.name: v.type.tensor_type.elem_type for v in onnx.shape_inference.infer_shapes(wider).graph.value_info}
    assert types[activation.input[0]] == onnx.TensorProto.FLOAT
    assert casts[0] >= 1


def test_a_graph_is_known_by_what_it_is_made_from(tmp_path):
    network, known = small_network(save_map_network(tmp_path / "small.onnx")), small_recipe()
    weights = network.source_sha256
    identities = {
        graph_id(weights, known, "fp16"),
        graph_id(weights, known, "fp16", True),
        graph_id(weights, known, "fp32"),
        graph_id("1" * 64, known, "fp16"),
        graph_id(weights, small_recipe(input="pixels"), "fp16"),
        graph_id(weights, small_recipe(layer=9), "fp16"),
    }
    assert len(identities) == 6
    first = typed_file(network, known, "fp16", cache_dir=tmp_path)
    content = first.read_bytes()
    assert graph_id(weights, known, "fp16") in first.name
    first.unlink()
    assert typed_file(network, known, "fp16", cache_dir=tmp_path).read_bytes() == content


def test_outputs_that_the_network_does_not_give_are_told(tmp_path):
    network = small_network(save_map_network(tmp_path / "small.onnx"))
    with pytest.raises(BuildError, match=r"tokens.*of map") as caught:
        typed_onnx(network, small_recipe(outputs=("tokens",)), "fp32")
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("content", [b"", b"no network", None])
def test_a_corrupt_network_file_is_told_with_the_fix(tmp_path, content):
    path = save_map_network(tmp_path / "small.onnx")
    path.write_bytes(path.read_bytes()[:200] if content is None else content)
    with pytest.raises(BuildError, match=r"small\.onnx"):
        typed_onnx(small_network(path), small_recipe(), "fp16")


@pytest.mark.parametrize("wider", [False, True])
@pytest.mark.parametrize("name", recipe_names())
def test_half_of_the_embedded_networks_stays_close_to_float32(name, wider, quick_settings):
    known = recipe(name)
    try:
        network = open_network(name, layer=known.layer)
    except MachineError as error:
        pytest.skip(f"{name} cannot be had: {error}")
    pictures = seen_by(own_pictures()[1::4], network, known, quick_settings.networks)
    half = typed_file(network, known, "fp16", wider=wider)
    with OnnxRunner(network.path, threads=1) as reference, OnnxRunner(half, threads=1) as candidate:
        run_reference = float32_run(reference, network, known)
        report = compare(network, known, quick_settings, pictures, run_reference, candidate.run_all)
    assert report.failures == ()
    assert min(report.token_cosine_mean or 1, report.descriptor_cosine_least or 1) > 0.999
