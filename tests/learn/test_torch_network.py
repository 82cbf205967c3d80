"""The network that learns is the network that describes: same maps, same descriptors, and a way back to ONNX."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch", reason="learning needs torch: pip install 'edge-claid[learn]'")

from lite_world import DEPTH, WIDTH, small_state  # noqa: E402

from edge_claid.config import DescriptorSettings  # noqa: E402
from edge_claid.descriptors.pool import RegionPooling  # noqa: E402
from edge_claid.errors import AccuracyError, BuildError, MachineError  # noqa: E402
from edge_claid.learn import export  # noqa: E402
from edge_claid.learn.export import exported  # noqa: E402
from edge_claid.learn.network import EfficientNetLite  # noqa: E402
from edge_claid.learn.pooling import pooled_boxes, pooled_descriptors  # noqa: E402
from edge_claid.models.efficientnet import efficientnet_lite_onnx  # noqa: E402
from edge_claid.models.fetch import fetch_weights  # noqa: E402
from edge_claid.models.torch_file import read_state_dict  # noqa: E402
from edge_claid.models.zoo import entry  # noqa: E402
from edge_claid.ops.reference.pool import pool_boxes  # noqa: E402
from edge_claid.records import FeatureMap  # noqa: E402

BOXES = np.array([[0, 0, 40, 30], [3.5, 2, 19, 21], [30, 8, 39.5, 29], [7, 7, 8, 8]], np.float32)


def onnx_maps(model, image: np.ndarray) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"image": image})


@pytest.mark.parametrize("size", [(64, 96), (75, 101), (32, 224)])
@pytest.mark.parametrize(("width", "depth"), [(WIDTH, DEPTH), (1.1, 1.2)])
def test_its_three_maps_are_the_onnx_outputs_at_any_size(width, depth, size):
    state = small_state(width, depth)
    image = np.random.default_rng(1).normal(size=(2, 3, *size)).astype(np.float32)
    with torch.no_grad():
        found = EfficientNetLite.from_state(state, width, depth)(torch.from_numpy(image))
    expected = onnx_maps(efficientnet_lite_onnx(state, width=width, depth=depth), image)
    assert len(found) == len(expected) == 3
    for got, wanted in zip(found, expected, strict=True):
        assert (wanted > 0).mean() > 0.1
        np.testing.assert_allclose(got.numpy(), wanted, atol=1e-4)


def test_the_real_weights_give_the_real_maps():
    known = entry("efficientnet-lite0")
    try:
        state = read_state_dict(fetch_weights(known).read_bytes())
    except MachineError as error:
        pytest.skip(f"the weights cannot be had: {error}")
    network = EfficientNetLite.from_state(state, known.build["width"], known.build["depth"])
    assert network.first_trained == 3
    exported(network, [np.random.default_rng(2).uniform(-1, 1, (3, 160, 224)).astype(np.float32)])


def test_weights_of_another_network_are_refused():
    state = small_state()
    with pytest.raises(BuildError, match="not those of this network"):
        EfficientNetLite.from_state(state, 1.0, 1.0)
    del state["_bn1.running_var"]
    with pytest.raises(BuildError, match="running_var"):
        EfficientNetLite.from_state(state, WIDTH, DEPTH)


@pytest.mark.parametrize("power", [1.0, 3.0, np.inf])
def test_pooled_boxes_are_the_reference_s(power):
    values = np.maximum(np.random.default_rng(3).normal(size=(7, 30, 40)), 0).astype(np.float32)
    found = pooled_boxes(torch.from_numpy(values), BOXES, power)
    np.testing.assert_allclose(found.numpy(), pool_boxes(values, BOXES, power), atol=2e-4)


@pytest.mark.parametrize("settings", [DescriptorSettings(), DescriptorSettings(share_16=0.0, smallest_side=3.0)])
def test_pooled_descriptors_are_the_pipeline_s(settings):
    rng = np.random.default_rng(4)
    maps = [np.maximum(rng.normal(size=shape), 0).astype(np.float32) for shape in ((9, 4, 5), (6, 8, 10), (3, 15, 20))]
    size = (40, 30)
    expected = RegionPooling(settings, pool_boxes).describe(FeatureMap(maps[0], size, tuple(maps[1:])), BOXES).values
    found = pooled_descriptors([torch.from_numpy(values) for values in maps], BOXES, size, settings)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


def test_gradients_of_pooling_are_right_and_finite_where_a_channel_is_nought():
    values = torch.rand(3, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.1
    boxes = np.array([[0.3, 0.2, 4.6, 3.9], [2, 1, 3, 2]], np.float64)
    assert torch.autograd.gradcheck(lambda x: pooled_boxes(x, boxes, 3.0), values.requires_grad_())
    empty = torch.zeros(3, 5, 6, requires_grad=True)
    pooled_boxes(empty, boxes.astype(np.float32), 3.0).sum().backward()
    assert torch.isfinite(empty.grad).all()


def test_an_export_that_differs_from_what_was_trained_is_refused(monkeypatch):
    network = EfficientNetLite.from_state(small_state(), WIDTH, DEPTH)
    image = np.random.default_rng(5).normal(size=(3, 64, 64)).astype(np.float32)
    assert [output.name for output in exported(network, [image]).graph.output] == ["map", "inner16", "inner8"]
    other = efficientnet_lite_onnx(small_state(seed=1), width=WIDTH, depth=DEPTH)
    monkeypatch.setattr(export, "efficientnet_lite_onnx", lambda *arguments, **options: other)
    with pytest.raises(AccuracyError, match="differs from the trained one's"):
        exported(network, [image])
