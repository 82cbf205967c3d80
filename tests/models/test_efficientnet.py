"""EfficientNet-Lite built as ONNX gives what the reference implementation in torch gives."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from conftest import lite_state

from edge_claid.errors import BuildError
from edge_claid.models.efficientnet import blocks_of, efficientnet_lite_onnx, rounded_channels
from edge_claid.models.zoo import entry

# Activations of the random networks reach hundreds before they are clipped at 6: float32 keeps four digits of them.
# Padding on the wrong side, or a wrong fold, differs by whole units.
TOLERANCE = 2e-3
VARIANTS = {"efficientnet-lite0": (1.0, 1.0), "efficientnet-lite1": (1.0, 1.1), "efficientnet-lite2": (1.1, 1.2)}


def run(model, image: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"image": image})[0]


def reference(name: str, state: dict[str, np.ndarray], image_size: int | None):
    torch = pytest.importorskip("torch")
    package = pytest.importorskip("efficientnet_lite_pytorch")
    network = package.EfficientNet.from_name(name, image_size=image_size).eval()
    tensors = {key: torch.from_numpy(value) for key, value in state.items()}
    missing = network.load_state_dict(tensors, strict=False).missing_keys
    assert all(key.startswith("_fc.") or key.endswith("num_batches_tracked") for key in missing)
    return network


@pytest.mark.parametrize("size", [(64, 96), (224, 224), (75, 101), (240, 240)])
@pytest.mark.parametrize("name", VARIANTS)
def test_head_map_equals_the_reference_at_any_size(name, size):
    torch = pytest.importorskip("torch")
    width, depth = VARIANTS[name]
    state = lite_state(width, depth)
    image = np.random.default_rng(1).normal(size=(2, 3, *size)).astype(np.float32)
    with torch.no_grad():
        expected = reference(name, state, None).extract_features(torch.from_numpy(image)).numpy()
    found = run(efficientnet_lite_onnx(state, width=width, depth=depth), image)
    assert found.shape == (2, 1280, -(-size[0] // 32), -(-size[1] // 32))
    assert (expected > 0).mean() > 0.1
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


def test_static_padding_of_the_reference_is_the_same_at_its_own_size():
    torch = pytest.importorskip("torch")
    state = lite_state(1.0, 1.0)
    image = np.random.default_rng(2).normal(size=(1, 3, 224, 224)).astype(np.float32)
    with torch.no_grad():
        expected = reference("efficientnet-lite0", state, 224).extract_features(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(run(efficientnet_lite_onnx(state, width=1, depth=1), image), expected, atol=TOLERANCE)


def test_stride_16_is_the_last_block_before_the_stride_32_stage():
    torch = pytest.importorskip("torch")
    state = lite_state(1.0, 1.0)
    image = np.random.default_rng(3).normal(size=(1, 3, 96, 64)).astype(np.float32)
    network = reference("efficientnet-lite0", state, None)
    first = next(i for i, b in reversed(list(enumerate(blocks_of(1, 1)))) if b.stride == 2)
    with torch.no_grad():
        x = network._swish(network._bn0(network._conv_stem(torch.from_numpy(image))))
        for block in network._blocks[:first]:
            x = block(x)
    found = run(efficientnet_lite_onnx(state, width=1, depth=1, stride=16), image)
    assert found.shape == (1, 112, 6, 4)
    np.testing.assert_allclose(found, x.numpy(), atol=TOLERANCE)


@pytest.mark.parametrize("name", VARIANTS)
def test_inner_maps_are_what_the_next_stage_s_first_block_expands_to(name):
    torch = pytest.importorskip("torch")
    width, depth = VARIANTS[name]
    state = lite_state(width, depth)
    image = np.random.default_rng(4).normal(size=(1, 3, 96, 64)).astype(np.float32)
    network = reference(name, state, None)
    expected = {}
    with torch.no_grad():
        x = network._swish(network._bn0(network._conv_stem(torch.from_numpy(image))))
        for index, block in enumerate(blocks_of(width, depth)):
            inner = network._blocks[index]
            if block.stride == 2:
                expected[image.shape[2] // x.shape[2]] = inner._swish(inner._bn0(inner._expand_conv(x))).numpy()
            x = inner(x)
    session = onnxruntime.InferenceSession(efficientnet_lite_onnx(state, width=width, depth=depth).SerializeToString())
    names = [output.name for output in session.get_outputs()]
    assert names == ["map", "inner16", "inner8"]
    found = session.run(None, {"image": image})
    assert [tuple(output.shape[1:]) for output in found[1:]] == [
        (dim, 96 // stride, 64 // stride) for dim, stride in zip(entry(name).inner_dims, (16, 8), strict=True)
    ]
    for stride, output in zip((16, 8), found[1:], strict=True):
        assert (output > 0).mean() > 0.1
        np.testing.assert_allclose(output, expected[stride], atol=TOLERANCE)


def test_channels_round_as_tensorflow_rounds():
    assert [rounded_channels(n, 1.1) for n in (16, 24, 40, 80, 112, 192, 320)] == [16, 24, 48, 88, 120, 208, 352]
    assert rounded_channels(10, 1.1) == 16  # 8 would be more than 10 % narrower


def test_a_missing_or_misshapen_tensor_is_named():
    state = lite_state(1.0, 1.0)
    bad = {key: value for key, value in state.items() if key != "_blocks.3._bn1.bias"}
    with pytest.raises(BuildError, match=r"_blocks\.3\._bn1\.bias"):
        efficientnet_lite_onnx(bad, width=1, depth=1)
    with pytest.raises(BuildError, match="expected"):
        efficientnet_lite_onnx(state, width=1.1, depth=1.2)


def test_another_stride_is_refused():
    with pytest.raises(BuildError, match="choose 16 or 32"):
        efficientnet_lite_onnx(lite_state(1.0, 1.0), width=1, depth=1, stride=8)
