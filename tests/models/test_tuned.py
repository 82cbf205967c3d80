"""Fine-tuned networks: kept by content, listed, opened, carried to another machine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import lite_state
from typer.testing import CliRunner

from edge_claid.cli.app import app
from edge_claid.errors import EdgeClaidError, MachineError, UsageError
from edge_claid.models import open_network
from edge_claid.models.cache import sha256_of
from edge_claid.models.efficientnet import efficientnet_lite_onnx
from edge_claid.models.exported import exported_file
from edge_claid.models.importing import import_path
from edge_claid.models.network import is_here
from edge_claid.models.tuned import keep_tuned, known_networks
from edge_claid.models.zoo import entry, zoo

BASE = "efficientnet-lite0"


def tuned_model(seed: int = 3) -> onnx.ModelProto:
    return efficientnet_lite_onnx(lite_state(1.0, 1.0, seed), width=1.0, depth=1.0)


def test_a_tuned_network_opens_as_its_base_does_with_its_own_weights():
    model = tuned_model()
    known = keep_tuned(model, entry(BASE))
    network, base = open_network(known.name), entry(BASE)
    assert known.name.startswith("efficientnet-lite0-udq-")
    assert network.source_sha256 == sha256_of(exported_file(known)) != base.wheel.member_sha256
    assert (network.stride, network.feature_dim, network.inner_dims) == (32, 1280, base.inner_dims)
    assert network.mean.tolist() == list(base.mean)
    image = np.random.default_rng(0).normal(size=(1, 3, 64, 96)).astype(np.float32)
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"image": image})
    found = onnxruntime.InferenceSession(network.path).run(None, {"image": image})
    assert [output.shape for output in found] == [(1, 1280, 2, 3), (1, 672, 4, 6), (1, 240, 8, 12)]
    for got, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_equal_weights_have_one_name_and_one_file_and_others_another(own_cache: Path):
    first, again, other = (keep_tuned(tuned_model(seed), entry(BASE)) for seed in (3, 3, 4))
    assert first.name == again.name != other.name
    assert len(list(own_cache.rglob("*.onnx"))) == 2
    assert not [path for path in own_cache.rglob("*") if path.name.startswith(".tuned-")]


def test_it_is_listed_and_only_while_its_file_is_there():
    known = keep_tuned(tuned_model(), entry(BASE))
    assert [one.name for one in known_networks()] == [*zoo(), known.name]
    lines = CliRunner().invoke(app, ["models", "list", "--json"]).stdout.splitlines()
    listed = next(line for line in map(json.loads, lines) if line["name"] == known.name)
    assert (listed["here"], listed["source"], listed["layers"]) == (True, f"tuned from {BASE}", [32])
    assert known.name in CliRunner().invoke(app, ["models", "list"]).stdout
    exported_file(known).unlink()
    assert [one.name for one in known_networks()] == [*zoo()]
    assert not is_here(known)
    with pytest.raises(MachineError, match=r"fine-tuned on another.*models import FILE"):
        open_network(known.name)


def test_its_file_is_taken_to_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    known = keep_tuned(tuned_model(), entry(BASE))
    network = open_network(known.name)
    shown = CliRunner().invoke(app, ["models", "export", known.name]).stdout.strip()
    monkeypatch.setenv("EDGE_CLAID_CACHE_DIR", str(tmp_path / "elsewhere"))
    assert import_path(Path(shown)) == [known.name]
    assert open_network(known.name).source_sha256 == network.source_sha256
    assert tmp_path / "elsewhere" in open_network(known.name).path.parents


def test_a_file_that_lacks_a_map_or_has_another_name_is_refused(tmp_path: Path):
    known = keep_tuned(tuned_model(), entry(BASE))
    whole = onnx.load(exported_file(known))
    path = tmp_path / "hostile.onnx"

    def refused(words: str, change) -> None:
        model = onnx.ModelProto()
        model.CopyFrom(whole)
        change(model)
        path.write_bytes(model.SerializeToString())
        with pytest.raises(UsageError, match=words):
            import_path(path)

    refused("lacks the layers inner8", lambda model: model.graph.output.pop())
    for name in ("../../evil-udq-00000000", "resnet18-udq-00000000", "efficientnet-lite0-udq-0000000g"):
        renamed = {"edge_claid.network": name}
        refused(
            "no network is called|cannot be fine-tuned",
            lambda model, renamed=renamed: onnx.helper.set_model_props(model, renamed),
        )


@pytest.mark.parametrize("name", ["resnet18-udq-01234567", "dinov2-s14-focus-udq-01234567", "nothing-udq-01234567"])
def test_only_an_efficientnet_can_have_been_tuned(name: str):
    with pytest.raises(EdgeClaidError, match=r"cannot be fine-tuned|no network is called"):
        entry(name)
