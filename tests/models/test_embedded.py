"""The embedded networks themselves; skipped where they cannot be fetched."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest

from edge_claid.models import NetworkFile, open_network
from edge_claid.models.fetch import fetch_weights
from edge_claid.models.quantise import token_cosines
from edge_claid.models.torch_file import read_state_dict
from edge_claid.models.zoo import entry

VIT = "dinov2-s14-focus"


def run(network: NetworkFile, image: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(network.path).run(None, {"image": image})[0]


def picture(seed: int, height: int, width: int) -> np.ndarray:
    """(1, 3, H, W) float32, a normalised made-up picture with edges and smooth parts."""
    generator = np.random.default_rng(seed)
    pixels = cv2.resize(generator.integers(0, 256, (5, 7, 3), np.uint8), (width, height))
    for _ in range(6):
        x, y = int(generator.integers(0, width)), int(generator.integers(0, height))
        cv2.circle(pixels, (x, y), int(generator.integers(9, 50)), tuple(map(int, generator.integers(0, 256, 3))), -1)
    return normalised(pixels)


def normalised(pixels: np.ndarray) -> np.ndarray:
    known = entry(VIT)
    values = (pixels / np.float32(255) - np.array(known.mean, np.float32)) / np.array(known.std, np.float32)
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None], dtype=np.float32)


@pytest.mark.parametrize("layer", [0, 8, -1])
def test_the_cut_vit_gives_the_uncut_networks_tokens(real_cache, layer):
    names = entry(VIT).build["tensors"]
    tensor = names["end"] if layer == -1 else names["block"].format(layer=layer)
    model = onnx.load(fetch_weights(entry(VIT), real_cache))
    model.graph.output.append(onnx.helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, None))
    image = picture(0, 224, 224)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    expected = session.run([tensor], {names["input"]: image})[0][:, 1:]
    found = run(open_network(VIT, layer=layer, cache_dir=real_cache), image)
    assert found.shape == (1, 256, 384)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_the_vit_takes_any_multiple_of_14_and_batches(real_cache):
    network = open_network(VIT, cache_dir=real_cache)
    image = picture(1, 154, 280)
    both = run(network, np.concatenate([image, picture(2, 154, 280)]))
    assert both.shape == (2, 11 * 20, network.feature_dim)
    np.testing.assert_allclose(both[:1], run(network, image), atol=1e-3)


def test_tokens_follow_the_picture_on_a_grid_that_is_not_square(real_cache):
    """Mirroring the picture mirrors the tokens: rows, columns and positions are not mixed up."""
    network = open_network(VIT, cache_dir=real_cache)
    image = picture(3, 140, 280)
    tokens = run(network, image).reshape(10, 20, -1) - network.mean_token
    mirrored = run(network, np.ascontiguousarray(image[..., ::-1])).reshape(10, 20, -1)[:, ::-1] - network.mean_token
    same = token_cosines(tokens, mirrored).mean()
    assert same > 0.5
    assert same > token_cosines(tokens, mirrored[::-1]).mean() + 0.2


def test_int8_tokens_stay_as_close_as_recorded(real_cache, shared_data: Path):
    paths = sorted((shared_data / "data" / "coco_dev" / "images").iterdir())[::36]
    images = []
    for path in paths:
        pixels = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        scale = 518 / max(pixels.shape[:2])
        height, width = (round(n * scale / 14) * 14 for n in pixels.shape[:2])
        images.append(normalised(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)))
    cosines = int8_cosines(real_cache, images)
    mean, first_percentile = entry(VIT).int8_cosine
    assert cosines.mean() > mean - 0.002
    assert np.percentile(cosines, 1) > first_percentile - 0.006


def test_int8_tokens_are_close_on_made_up_pictures(real_cache):
    assert int8_cosines(real_cache, [picture(seed, 266, 280) for seed in (4, 5)]).mean() > 0.99


def int8_cosines(cache: Path, images: list[np.ndarray]) -> np.ndarray:
    fp32, int8 = (open_network(VIT, variant=variant, cache_dir=cache) for variant in ("fp32", "int8"))
    return np.concatenate([token_cosines(run(int8, image), run(fp32, image)).ravel() for image in images])


def test_the_real_state_dict_reads_as_torch_reads_it(real_cache):
    torch = pytest.importorskip("torch")
    path = fetch_weights(entry("efficientnet-lite0"), real_cache)
    expected = torch.load(path, weights_only=True)
    state = read_state_dict(path.read_bytes())
    assert list(state) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(state[name], value.numpy())


def test_the_real_efficientnet_equals_the_reference(real_cache):
    torch = pytest.importorskip("torch")
    package = pytest.importorskip("efficientnet_lite_pytorch")
    network = package.EfficientNet.from_name("efficientnet-lite0", image_size=None).eval()
    network.load_state_dict(torch.load(fetch_weights(entry("efficientnet-lite0"), real_cache), weights_only=True))
    image = picture(6, 256, 320)
    with torch.no_grad():
        expected = network.extract_features(torch.from_numpy(image)).numpy()
    found = run(open_network("efficientnet-lite0", cache_dir=real_cache), image)
    assert expected.max() == 6
    np.testing.assert_allclose(found, expected, atol=1e-4)
