"""Int8 by Q/DQ: what is quantised, by which ranges, and that the graph computes what the arithmetic says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.version_converter
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_claid.engines.quantise import FP8, METHODS, activation_ranges, products, quantised, with_outputs
from edge_claid.errors import BuildError
from edge_claid.runners.onnx_runner import OnnxRunner


def save_network(path: Path, *, named: bool = True) -> onnx.ModelProto:
    """Convolution, then two matrix products of one activation, then a product of two activations."""
    rng = np.random.default_rng(0)
    weights = {
        "kernel": rng.normal(0, 1, (6, 3, 2, 2)), "left": rng.normal(0, 1, (6, 5)), "right": rng.normal(0, 1, (6, 5)),
    }  # fmt: skip
    name = (lambda text: text) if named else (lambda text: "")
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["cells"], name=name("conv"), strides=[2, 2]),
        helper.make_node("Transpose", ["cells"], ["last"], name="order", perm=[0, 2, 3, 1]),
        helper.make_node("MatMul", ["last", "left"], ["a"], name=name("left product")),
        helper.make_node("MatMul", ["last", "right"], ["b"], name=name("right product")),
        helper.make_node("Transpose", ["b"], ["bt"], name="turn", perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["a", "bt"], ["out"], name=name("of activations")),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, "height", "width"])
    output = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", "rows", "columns", "others"])
    constants = [numpy_helper.from_array(value.astype(np.float32), key) for key, value in weights.items()]
    graph = helper.make_graph(nodes, "products", [image], [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
    return model


@pytest.fixture
def model(tmp_path):
    return save_network(tmp_path / "products.onnx")


@pytest.fixture
def inputs():
    return [np.random.default_rng(seed).normal(0, 1, (1, 3, 8, 10)).astype(np.float32) for seed in range(3)]


def run(model: onnx.ModelProto, batch: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"image": batch})[0]


def test_products_with_constant_weights_are_found(model):
    found = products(model)
    assert [(p.node, p.activation, p.weight, p.axis) for p in found] == [
        ("conv", "image", "kernel", 0),
        ("left product", "last", "left", 1),
        ("right product", "last", "right", 1),
    ]
    assert [p.node for p in products(model, ["Conv"])] == ["conv"]


def test_a_product_without_a_name_is_told(tmp_path):
    with pytest.raises(BuildError, match="cells has no name"):
        products(save_network(tmp_path / "unnamed.onnx", named=False))


def test_ranges_by_maximum_are_the_largest_magnitudes(model, inputs):
    ranges = activation_ranges(model, products(model), inputs, method="max")
    assert set(ranges) == {"image", "last"}
    assert ranges["image"] == pytest.approx(max(float(np.abs(x).max()) for x in inputs))


@pytest.mark.parametrize("method", METHODS[:2])
def test_ranges_leave_a_lone_outlier_out(model, inputs, method):
    inputs[0][0, 0, 0, 0] = 1000.0
    ranges = activation_ranges(model, products(model)[:1], inputs, method=method, percentile=99.0)
    assert 1 < ranges["image"] < 40


def test_percentiles_keep_their_share(model):
    batch = np.arange(1, 3 * 50 * 40 + 1, dtype=np.float32).reshape(1, 3, 50, 40)
    ranges = activation_ranges(model, products(model)[:1], [batch], method="percentile", percentile=90.0)
    assert ranges["image"] == pytest.approx(0.9 * batch.size, rel=1e-3)


def test_the_graph_computes_the_quantised_arithmetic(model, inputs):
    chosen = products(model)[1:2]
    ranges = activation_ranges(model, chosen, inputs, method="max")
    weights = {value.name: numpy_helper.to_array(value) for value in model.graph.initializer}
    scale = np.float32(ranges["last"] / 127)
    scales = np.abs(weights["left"]).max(axis=0) / 127
    weight = np.clip(np.round(weights["left"] / scales), -128, 127) * scales
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.append(helper.make_tensor_value_info("last", TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(probe.SerializeToString())
    plain, last = session.run(["out", "last"], {"image": inputs[0]})
    a = np.clip(np.round(last / scale), -128, 127) * scale @ weight
    expected = a @ (last @ weights["right"]).transpose(0, 1, 3, 2)
    found = run(quantised(model, chosen, ranges), inputs[0])
    # Rounding halves of the scaled activation may fall to either side.
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())
    assert np.abs(found - expected).mean() < 0.2 * np.abs(found - plain).mean()


def test_pairs_are_symmetric_shared_and_around_the_chosen_products_only(model, inputs):
    chosen = products(model)
    made = quantised(model, chosen, activation_ranges(model, chosen, inputs))
    onnx.checker.check_model(made)
    kinds = [node.op_type for node in made.graph.node]
    # image, kernel, last (once for both products), left, right
    assert kinds.count("QuantizeLinear") == kinds.count("DequantizeLinear") == 5
    zeros = [value for value in made.graph.initializer if value.name.endswith(".zero")]
    assert all(value.data_type == TensorProto.INT8 and not numpy_helper.to_array(value).any() for value in zeros)
    last = next(node for node in made.graph.node if node.name == "of activations")
    assert list(last.input) == ["a", "bt"]
    cosine = np.vdot(run(made, inputs[0]), run(model, inputs[0]))
    cosine /= np.linalg.norm(run(made, inputs[0])) * np.linalg.norm(run(model, inputs[0]))
    assert 0.995 < cosine < 1


def test_fp8_rounds_to_the_numbers_that_gpus_multiply(tmp_path, inputs):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    model = onnx.version_converter.convert_version(save_network(tmp_path / "products.onnx"), FP8.opset)
    chosen = products(model)[1:2]
    ranges = activation_ranges(model, chosen, inputs, method="max")
    made = quantised(model, chosen, ranges, form=FP8)
    made.ir_version = 9
    onnx.checker.check_model(made)
    onnx.save(made, tmp_path / "fp8.onnx")
    weight = numpy_helper.to_array(next(value for value in model.graph.initializer if value.name == "left"))

    def rounded(values, scale):
        return (values / scale).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * scale

    plain, last = onnxruntime.InferenceSession(
        with_outputs(model, ["last"]).SerializeToString()
    ).run(["out", "last"], {"image": inputs[0]})  # fmt: skip
    right = next(value for value in model.graph.initializer if value.name == "right")
    b = (last @ numpy_helper.to_array(right)).transpose(0, 1, 3, 2)
    scales = np.abs(weight).max(axis=0) / np.float32(448)
    expected = rounded(last, np.float32(ranges["last"] / 448)) @ rounded(weight, scales) @ b
    # OnnxRunner finds out by itself that ONNX Runtime must not fuse these pairs.
    with OnnxRunner(tmp_path / "fp8.onnx", threads=1) as runner:
        found = runner.run(inputs[0])
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())
    assert np.abs(found - expected).mean() < 0.2 * np.abs(found - plain).mean()
