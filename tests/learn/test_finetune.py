"""Fine-tuning on the CPU with a small network and few pictures: the losses fall, and what is to learn learns."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="learning needs torch: pip install 'edge-claid[learn]'")

from lite_world import DEPTH, WIDTH, MadeUpPictures, small_state  # noqa: E402

from edge_claid.codes.projection import Projection, fit_whitening  # noqa: E402
from edge_claid.config import DescriptorSettings  # noqa: E402
from edge_claid.errors import BadImageError, BuildError, MachineError, UsageError  # noqa: E402
from edge_claid.learn import finetune  # noqa: E402
from edge_claid.learn.finetune import RegionFeatures, described, finetuned, loaded, optimised  # noqa: E402
from edge_claid.learn.machine import training_device  # noqa: E402
from edge_claid.learn.network import EfficientNetLite  # noqa: E402
from edge_claid.learn.udq import Progress, UdqSettings, supervised  # noqa: E402

KEPT = 16
SETTINGS = UdqSettings(2, steps=10, batch=8, iterations=1, learning_rate=1e-3)


def model() -> RegionFeatures:
    return RegionFeatures(EfficientNetLite.from_state(small_state(), WIDTH, DEPTH), DescriptorSettings())


def whitening(descriptors: np.ndarray) -> Projection:
    return fit_whitening(descriptors, KEPT, power=0.5)


@pytest.fixture(autouse=True, scope="module")
def told_often() -> Iterator[None]:
    """Every five steps, which take each picture once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "REPORT_EVERY", 5)
        yield


@pytest.fixture(scope="module")
def pictures() -> MadeUpPictures:
    return MadeUpPictures()


@pytest.fixture(scope="module")
def learned(pictures, told_often) -> tuple[RegionFeatures, Projection, list[Progress]]:
    network, told = model(), []
    return network, finetuned(pictures, network, whitening, SETTINGS, told.append), told


def test_the_losses_fall_within_each_module(learned):
    told = learned[2]
    assert [progress.done for progress in told] == [5, 10, 15, 20]
    assert {progress.steps for progress in told} == {20}
    for first, last in ((0, 1), (2, 3)):
        assert told[last].separability < 0.995 * told[first].separability


def test_what_is_to_learn_learns_and_nothing_else_changes(learned):
    before, after = small_state(), learned[0].network.state_dict()
    first = learned[0].network.first_trained
    assert 0 < first < len(learned[0].network._blocks)
    fixed = ["_conv_stem.", *(f"_blocks.{index}." for index in range(first))]
    for name, value in after.items():
        changed = not np.array_equal(value.numpy(), before[name])
        assert changed == ("_conv" in name and not any(name.startswith(part) for part in fixed)), name


def test_two_steps_reach_the_first_trained_block(pictures):
    network = model()
    network.start_from(whitening(described(pictures, network, SETTINGS)))
    with torch.no_grad():
        values = network([pictures[index] for index in range(40)]).numpy()
    settings = dataclasses.replace(SETTINGS, steps=2)
    steps = list(optimised(pictures, network, supervised(values, settings), settings, torch.Generator()))
    assert [step for step, *_ in steps] == [2]
    block = network.network._blocks[network.network.first_trained]
    for convolution in (block._expand_conv, block._depthwise_conv, block._project_conv):
        assert convolution.weight.grad.abs().max() > 0
    assert network.network._conv_head.weight.grad.abs().max() > 0
    assert network.head.linear.weight.grad.abs().max() > 0
    assert network.network._conv_stem.weight.grad is None
    assert network.network._blocks[0]._depthwise_conv.weight.grad is None


def test_the_projection_returned_does_what_head_and_whitening_do(learned, pictures):
    network, projection, _ = learned
    with torch.no_grad():
        expected = network([pictures[0], pictures[1]]).numpy()
        found = projection.project(network.descriptors([pictures[0], pictures[1]]).numpy())
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.shape == (16, KEPT)


def test_pictures_of_different_sizes_are_described_as_each_is_alone(pictures):
    network = model()
    assert pictures[0].image.shape != pictures[1].image.shape
    with torch.no_grad():
        together = network.descriptors([pictures[i] for i in (0, 1, 2)])
        alone = torch.cat([network.descriptors([pictures[i]]) for i in (0, 1, 2)])
    np.testing.assert_allclose(together.numpy(), alone.numpy(), atol=1e-5)


def test_the_balance_draws_features_to_their_codewords(pictures):
    distances = []
    for balance in (0.0, 30.0):
        network = model()
        network.start_from(whitening(described(pictures, network, SETTINGS)))
        with torch.no_grad():
            values = network([pictures[index] for index in range(40)]).numpy()
        settings = dataclasses.replace(SETTINGS, steps=15, balance=balance, learning_rate=1e-4)
        steps = list(optimised(pictures, network, supervised(values, settings), settings, torch.Generator()))
        distances.append(steps[-1][2])
    assert distances[1] < 0.95 * distances[0]


def test_the_same_seed_gives_the_same_network_and_another_seed_another(pictures):
    runs = []
    for seed in (0, 0, 1):
        short = model()
        projection = finetuned(
            pictures, short, whitening, dataclasses.replace(SETTINGS, steps=2, iterations=0, seed=seed)
        )
        runs.append((projection.matrix, short.network.state_dict()["_conv_head.weight"].numpy()))
    for first, again, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(first, again)
        assert np.abs(first - other).max() > 0


def test_batches_come_in_order_and_a_bad_picture_is_told(pictures):
    order = torch.arange(40).split(8)
    assert [chosen.tolist() for chosen, _ in loaded(pictures, order)] == [chosen.tolist() for chosen in order]
    for chosen, batch in loaded(pictures, order):
        assert all(picture is pictures[i] for i, picture in zip(chosen.tolist(), batch, strict=True))

    class Broken(MadeUpPictures):
        def __getitem__(self, index):
            if index == 13:
                raise BadImageError("13.png: truncated")
            return super().__getitem__(index)

    with pytest.raises(BadImageError, match="13"):
        finetuned(Broken(), model(), whitening, SETTINGS)


def test_too_few_regions_wrong_settings_and_losses_gone_astray_are_refused(pictures):
    with pytest.raises(UsageError, match="at least 256 regions"):
        finetuned(MadeUpPictures(31), model(), whitening, SETTINGS)
    with pytest.raises(UsageError, match="do not divide"):
        finetuned(pictures, model(), whitening, dataclasses.replace(SETTINGS, bytes=3))
    with pytest.raises(BuildError, match=r"not finite\. Nothing was changed"):
        finetuned(pictures, model(), whitening, dataclasses.replace(SETTINGS, balance=math.inf))


def test_without_a_gpu_the_message_names_what_is_missing(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(MachineError, match=r"built without CUDA.*needs no GPU"):
        training_device()
    monkeypatch.setattr(torch.version, "cuda", "12.6")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MachineError, match=r"for CUDA 12\.6\) finds no NVIDIA GPU.*needs no GPU"):
        training_device()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert training_device().type == "cuda"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
def test_a_gpu_learns_what_the_cpu_learns(pictures, learned):
    """Descriptors agree before anything is learned; afterwards less closely, as roundings grow step by step."""
    device, told = training_device(), []
    network = model().to(device)
    with torch.no_grad():
        first = network.descriptors([pictures[0], pictures[1]]).cpu().numpy()
        np.testing.assert_allclose(first, model().descriptors([pictures[0], pictures[1]]).numpy(), atol=2e-3)
    projection = finetuned(pictures, network, whitening, SETTINGS, told.append)
    assert {value.device.type for value in network.parameters()} == {"cuda"}
    assert [progress.done for progress in told] == [progress.done for progress in learned[2]]
    for here, there in zip(told, learned[2], strict=True):
        assert here.separability == pytest.approx(there.separability, rel=0.1)
    values = [
        whole.project(described(pictures, net, SETTINGS)) for whole, net in ((projection, network), learned[1::-1])
    ]
    similar = (values[0] @ values[0].T - values[1] @ values[1].T).ravel()
    assert np.abs(similar).mean() < 0.1
