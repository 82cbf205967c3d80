"""Precisions are compared piece by piece: what was found is kept, and is what a pipeline finds."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from precision_outputs import OutOfTimeError, Outputs, Remembered, Row

from edge_claid.datasets import open_dataset
from edge_claid.errors import MachineError
from edge_claid.frames.reading import read_picture
from edge_claid.models import open_network
from edge_claid.pipeline import Pipeline


@pytest.fixture
def dataset(shared_data):
    try:
        open_network("efficientnet-lite0")
    except MachineError as error:
        pytest.skip(str(error))
    whole = open_dataset(shared_data / "data" / "dev")
    return replace(whole, queries=whole.queries[:1])


def test_outputs_are_found_once_and_are_a_pipelines(dataset, tmp_path, monkeypatch):
    with pytest.raises(OutOfTimeError):
        Outputs(dataset, tmp_path, seconds=-1, pictures=2).find_regions("fp32")
    outputs = Outputs(dataset, tmp_path, seconds=600, pictures=2)
    outputs.find_regions("fp32")
    outputs.find_descriptors("fp32", ["fp32"])
    (asked,) = outputs.queries("fp32").values()
    frame = read_picture(outputs.paths[1])
    with outputs.float32 as pipeline:
        wanted = pipeline.describe_regions(frame)
    (found,) = Remembered(outputs, Row.of("fp32/fp32")).describe_many([frame])
    np.testing.assert_array_equal(found.regions.boxes, wanted.regions.boxes)
    np.testing.assert_array_equal(found.regions.masks, wanted.regions.masks)
    np.testing.assert_array_equal(found.descriptors.values, wanted.descriptors.values)
    assert len(wanted.regions) > 3
    assert asked.values.shape == (1, wanted.descriptors.values.shape[1])
    # Nothing is looked at again, not even when no time is left.
    monkeypatch.setattr(Pipeline, "__enter__", lambda self: pytest.fail("a pipeline was opened"))
    again = Outputs(dataset, tmp_path, seconds=-1, pictures=2)
    again.find_regions("fp32")
    again.find_descriptors("fp32", ["fp32"])
    galleries_of_moved_pictures(dataset, again, tmp_path / "moved")


def galleries_of_moved_pictures(dataset, outputs, elsewhere):
    """A gallery that is kept knows where its pictures lay: taken for those of another place, it would find none."""
    import compare_precisions

    row = Row.of("fp32/fp32")
    images = [image for image in dataset.images if os.fspath(image.path) in outputs.paths]
    here = replace(dataset, images=images, queries=[])
    kept = compare_precisions.row_gallery(here, outputs, row)
    assert compare_precisions.holds(kept, here)
    elsewhere.mkdir()
    moved = [replace(image, path=Path(shutil.copy(image.path, elsewhere))) for image in here.images]
    there = replace(here, images=moved)
    assert not compare_precisions.holds(kept, there)
    assert compare_precisions.holds(compare_precisions.row_gallery(there, outputs, row), there)
