"""Records in the form that roboflow's supervision takes."""

from __future__ import annotations

import dataclasses
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge_claid.errors import MachineError
from edge_claid.records import Hit, Regions


@dataclasses.dataclass
class Detections:
    """Stands in for supervision's, whose fields these are; lengths are checked as there."""

    xyxy: np.ndarray
    mask: np.ndarray | None = None
    confidence: np.ndarray | None = None
    class_id: np.ndarray | None = None
    data: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.xyxy)
        assert self.xyxy.shape == (count, 4)
        assert self.mask is None or (self.mask.dtype == bool and len(self.mask) == count and self.mask.ndim == 3)
        assert self.confidence is None or self.confidence.shape == (count,)
        assert all(len(values) == count for values in self.data.values())


@pytest.fixture(params=["stand-in", "real"])
def supervision(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "real":
        pytest.importorskip("supervision")
    else:
        monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=Detections))


def regions() -> Regions:
    # Two rows of three tokens; the second region is the right column.
    masks = np.packbits(np.array([[1] * 6, [0, 0, 1, 0, 0, 1]], np.uint8), axis=1, bitorder="little")
    boxes = np.array([[0, 0, 60, 40], [40, 0, 60, 40]], np.float32)
    numbers = np.array([-1, 0], np.int32), np.array([0, 1], np.int32), np.array([6, 2], np.int32)
    shares = np.array([1, 0.5], np.float32), np.array([0.2, 0.9], np.float32)
    return Regions(boxes, *numbers, *shares, masks, (2, 3), (60, 40))


@pytest.mark.usefixtures("supervision")
def test_regions_as_detections() -> None:
    found = regions().to_supervision()
    assert found.xyxy.tolist() == [[0, 0, 60, 40], [40, 0, 60, 40]]
    assert found.mask is None
    assert found.data["parent"].tolist() == [-1, 0]
    assert found.class_id.tolist() == [0, 1]
    masks = regions().to_supervision(masks=True).mask
    assert masks.shape == (2, 40, 60)
    assert masks[0].all()
    assert masks[1, :, 40:].all()
    assert not masks[1, :, :40].any()


@pytest.mark.usefixtures("supervision")
def test_a_hit_as_a_detection() -> None:
    found = Hit("a.jpg", "photos", 0.75, (1.0, 2.0, 30.0, 40.0), "cup", None).to_supervision()
    assert found.xyxy.tolist() == [[1, 2, 30, 40]]
    assert found.confidence.tolist() == [0.75]
    assert found.data["class_name"].tolist() == ["cup"]
    assert found.data["image"].tolist() == ["a.jpg"]
    assert np.isnan(found.data["match"]).all()


def test_without_the_package_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MachineError, match="pip install supervision"):
        regions().to_supervision()
