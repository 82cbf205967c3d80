"""The shipped preprocessing kernel on the model of a GPU, and on a real one by ``-m gpu``."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from cuda_devices import model_devices

from edge_claid.errors import UsageError
from edge_claid.ops.cuda.preprocess_op import network_planes

cv2 = pytest.importorskip("cv2", reason="OpenCV's resize is what the kernel is held to")

from edge_claid.frames.letterbox import resize  # noqa: E402

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def planes_of(device, pixels, layout, size):
    with contextlib.ExitStack() as stack:
        uploaded = device.upload(pixels)
        stack.callback(uploaded.close)
        planes = device.empty((1, 3, size[1], size[0]), np.float32)
        stack.callback(planes.close)
        network_planes(device, uploaded, layout, planes, MEAN, STD)
        return device.download(planes)[0]


def normalised(picture):
    return ((picture.astype(np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1)


@pytest.fixture(scope="module")
def picture():
    """A smooth picture with edges, (60, 90, 3) uint8 RGB."""
    rng = np.random.default_rng(4)
    small = rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)
    large = cv2.resize(small, (90, 60), interpolation=cv2.INTER_CUBIC)
    large[20:40, 30:50] = [250, 10, 60]
    return large


@pytest.mark.parametrize("device", model_devices(orders=["ascending", "shuffled"]), indirect=True)
@pytest.mark.parametrize("size", [(30, 20), (42, 28), (90, 60), (37, 23)])
def test_shrinking_averages_like_the_cpu_path(device, picture, size):
    wanted = normalised(resize(picture, size))
    for layout, pixels in (("rgb", picture), ("bgr", np.ascontiguousarray(picture[:, :, ::-1]))):
        found = planes_of(device, pixels, layout, size)
        # One grey level of 255, for rounding on the way.
        assert np.abs(found - wanted).max() < 1.01 / 255 / min(STD)


@pytest.mark.parametrize("device", model_devices(orders=["ascending"]), indirect=True)
def test_nv12_is_opencvs(device, picture):
    i420 = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420)
    blue, red = i420[60:75].reshape(30, 45), i420[75:].reshape(30, 45)
    nv12 = np.concatenate([i420[:60], np.stack([blue, red], axis=2).reshape(30, 90)])
    wanted = normalised(cv2.cvtColor(nv12, cv2.COLOR_YUV2RGB_NV12))
    found = planes_of(device, nv12, "nv12", (90, 60))
    assert np.abs(found - wanted).max() < 1.01 / 255 / min(STD)


@pytest.mark.parametrize("device", model_devices(orders=["ascending"]), indirect=True)
def test_growing_stays_near_the_cpu_path(device, picture):
    found = planes_of(device, picture, "rgb", (180, 120))
    wanted = normalised(resize(picture, (180, 120)))
    assert np.abs(found - wanted).mean() < 0.05


@pytest.mark.parametrize("device", model_devices(orders=["ascending"]), indirect=True)
def test_frames_that_are_none_are_refused(device):
    with contextlib.closing(device.upload(np.zeros((9, 7), np.uint8))) as pixels:
        with pytest.raises(UsageError, match="no pixel layout"):
            network_planes(device, pixels, "yuyv", pixels, MEAN, STD)
        with pytest.raises(UsageError, match="no nv12 frame"):
            network_planes(device, pixels, "nv12", pixels, MEAN, STD)
