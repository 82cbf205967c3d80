"""timm's networks exported to ONNX give what torch gives; random weights, so no hub is needed."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edge_claid.errors import BuildError, MachineError, UsageError
from edge_claid.models import open_network
from edge_claid.models.exported import checked_export, exported_file, layer_name
from edge_claid.models.importing import import_path
from edge_claid.models.zoo import entry


@pytest.fixture(scope="module")
def exporter():
    for package in ("torch", "timm", "torchvision"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    from edge_claid.models import export

    try:
        export._import_timm()
    except MachineError as error:
        pytest.skip(str(error))
    return export


@pytest.fixture(scope="module")
def exported(exporter, tmp_path_factory) -> dict[str, tuple]:
    """Name -> (the torch network with random weights, its exported file)."""
    cache = tmp_path_factory.mktemp("exports")
    made = {}
    for name in ("dino-vits8", "dinov2-vits14", "resnet18"):
        known = entry(name)
        network = exporter._network(known, None, False)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(exporter, "_network", lambda *arguments, network=network: network)
            made[name] = network, exporter.export_network(known, pretrained=False, cache_dir=cache)
    return made


@pytest.mark.parametrize("name", ["dino-vits8", "dinov2-vits14", "resnet18"])
def test_every_layer_equals_torch_at_the_networks_own_size(exported, name):
    import torch

    known = entry(name)
    network, path = exported[name]
    size = network.pretrained_cfg["input_size"][1]
    image = np.random.default_rng(0).normal(size=(1, 3, size, size)).astype(np.float32)
    layers = [known.layers[1], known.layers[-1]]
    with torch.no_grad():
        if known.output == "tokens":
            indices = [layer if layer >= 0 else len(network.blocks) - 1 for layer in layers]
            taken = network.forward_intermediates(
                torch.from_numpy(image), indices=sorted(set(indices)), output_fmt="NLC", intermediates_only=True
            )
            expected = dict(zip(sorted(set(indices)), taken, strict=True))
        else:
            expected = dict(zip(layers, stage_outputs(network, torch.from_numpy(image), layers), strict=True))
    session = onnxruntime.InferenceSession(path)
    for layer in layers:
        found = session.run([layer_name(known, layer)], {"image": image})[0]
        found = found[:, known.build.get("prefix", 0) :] if known.output == "tokens" else found
        np.testing.assert_allclose(found, expected[layer].numpy(), atol=2e-4 * float(abs(expected[layer]).max()))


def stage_outputs(network, image, layers):
    x = network.maxpool(network.act1(network.bn1(network.conv1(image))))
    outputs = {}
    for stage in range(1, 5):
        for index, block in enumerate(getattr(network, f"layer{stage}")):
            x = block(x)
            outputs[100 * stage + index] = x
    return [outputs[layer] for layer in layers]


def test_the_end_of_a_vit_is_its_normalised_tokens(exported):
    import torch

    network, path = exported["dino-vits8"]
    image = np.random.default_rng(1).normal(size=(1, 3, 224, 224)).astype(np.float32)
    with torch.no_grad():
        expected = network.forward_features(torch.from_numpy(image)).numpy()
    found = onnxruntime.InferenceSession(path).run(["end"], {"image": image})[0]
    np.testing.assert_allclose(found, expected, atol=2e-4 * abs(expected).max())


@pytest.mark.parametrize("name", ["dino-vits8", "dinov2-vits14", "resnet18"])
def test_an_imported_export_opens_at_any_size_and_batch(exported, name):
    known = entry(name)
    assert import_path(exported[name][1]) == [name]
    for layer in (known.layers[0], known.layer):
        network = open_network(name, layer=layer)
        assert network.source_sha256 == exported[name][1].stem[-64:]
        image = np.random.default_rng(2).normal(size=(2, 3, 6 * known.stride, 4 * known.stride)).astype(np.float32)
        output = onnxruntime.InferenceSession(network.path).run(None, {"image": image})[0]
        cells = 6 * known.stride // network.stride, 4 * known.stride // network.stride
        tail = (cells[0] * cells[1], network.feature_dim) if known.output == "tokens" else (network.feature_dim, *cells)
        assert output.shape == (2, *tail)


def test_an_exported_vit_has_an_int8_twin(exported):
    import_path(exported["dinov2-vits14"][1])
    fp32, int8 = (open_network("dinov2-vits14", variant=variant) for variant in ("fp32", "int8"))
    image = np.random.default_rng(3).normal(size=(1, 3, 70, 84)).astype(np.float32)
    a, b = (onnxruntime.InferenceSession(n.path).run(None, {"image": image})[0] for n in (fp32, int8))
    assert (a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b) > 0.98
    assert int8.path.stat().st_size < 0.5 * fp32.path.stat().st_size


def test_local_weights_are_used_and_wrong_ones_refused(exporter, exported, tmp_path, monkeypatch):
    import torch

    network = exported["resnet18"][0]
    good, bad = tmp_path / "good.pth", tmp_path / "bad.pth"
    torch.save(network.state_dict(), good)
    torch.save({"conv1.weight": network.state_dict()["conv1.weight"]}, bad)
    monkeypatch.setenv("EDGE_CLAID_OFFLINE", "1")
    known = entry("resnet18")
    again = exporter.export_network(known, checkpoint=good)
    image = np.random.default_rng(4).normal(size=(1, 3, 64, 64)).astype(np.float32)
    a, b = (
        onnxruntime.InferenceSession(p).run(["layer4.1"], {"image": image})[0] for p in (again, exported["resnet18"][1])
    )
    np.testing.assert_allclose(a, b, atol=1e-4)
    with pytest.raises(BuildError, match=r"lacks \d+ weights"):
        exporter.export_network(known, checkpoint=bad)
    bad.write_text("no weights at all")
    with pytest.raises(BuildError, match="does not hold the weights") as refused:
        exporter.export_network(known, checkpoint=bad)
    assert "weights_only" not in str(refused.value)  # torch's advice is to unpickle it
    with pytest.raises(UsageError, match="no such file"):
        exporter.export_network(known, checkpoint=tmp_path / "none.pth")
    with pytest.raises(MachineError, match="--checkpoint"):
        exporter.export_network(known)
    with pytest.raises(UsageError, match="models fetch"):
        exporter.export_network(entry("efficientnet-lite0"))


def save(path: Path, *, network: str | None = "resnet18", domain: str = "", external: bool = False) -> Path:
    known = entry("resnet18")
    node = "Identity" if not domain else "Anything"
    nodes = [helper.make_node(node, ["image"], [layer_name(known, n)], domain=domain) for n in known.layers]
    dims = ["b", 3, "h", "w"]
    outputs = [helper.make_tensor_value_info(layer_name(known, n), TensorProto.FLOAT, dims) for n in known.layers]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, dims)
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])
    graph = helper.make_graph(nodes, "g", [image], outputs, [weight])
    opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    if network:
        helper.set_model_props(model, {"edge_claid.network": network})
    if external:
        tensor = model.graph.initializer[0]
        tensor.ClearField("float_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../../../etc/passwd")
    path.write_bytes(model.SerializeToString())
    return path


def test_a_well_formed_export_from_outside_is_taken(tmp_path):
    assert checked_export(save(tmp_path / "a.onnx")).name == "resnet18"
    assert import_path(tmp_path / "a.onnx") == ["resnet18"]
    assert exported_file(entry("resnet18")).read_bytes() == (tmp_path / "a.onnx").read_bytes()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"network": None}, "nor is it a file that zoo.toml pins"),
        ({"network": "nonsense"}, "no network is called"),
        ({"network": "resnet101"}, r"lacks the layers layer3\.22"),
        ({"domain": "evil"}, "operators beyond ONNX's own"),
        ({"external": True}, "other files|no valid ONNX"),
    ],
)
def test_an_onnx_from_outside_is_checked_before_it_is_kept(tmp_path, options, reason, own_cache):
    path = save(tmp_path / "a.onnx", **options)
    with pytest.raises(UsageError, match=reason):
        import_path(path)
    assert not list(own_cache.rglob("*.onnx"))


def test_import_of_other_things_is_wrong_use(tmp_path, made_up_wheel):
    (tmp_path / "broken.onnx").write_bytes(b"\xff" * 100)
    (tmp_path / "unknown.whl").write_bytes(b"no wheel")
    for path in (tmp_path / "broken.onnx", tmp_path / "unknown.whl", tmp_path / "none", tmp_path):
        with pytest.raises(UsageError):
            import_path(path)
    shutil.copy(save(tmp_path / "good.onnx"), tmp_path / "again.onnx")
    assert import_path(tmp_path) == ["resnet18", "resnet18"]
