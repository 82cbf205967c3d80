"""The eval command, end to end with a pipeline that knows colours."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from colours import ColourPipeline
from typer.testing import CliRunner

from edge_claid import ops, pipeline
from edge_claid.cli.evaluate import evaluate
from edge_claid.config import Settings
from edge_claid.datasets import Dataset
from edge_claid.errors import UsageError
from edge_claid.evaluate.proposing import ProposingPipeline


class OpenedColours(ColourPipeline):
    """As a pipeline is opened and closed; its own regions are the grid's."""

    settings = Settings()

    def __enter__(self) -> OpenedColours:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def describe_many(self, frames):
        return ProposingPipeline(self, "grid").describe_many(frames)

    def view_scatter(self, pictures, count, done=None):
        return None


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pipeline.Pipeline, "open", OpenedColours)
    load = ops.load
    monkeypatch.setattr(ops, "load", lambda: load("reference"))
    app = typer.Typer()
    app.command()(evaluate)

    def invoke(*arguments: object):
        return CliRunner().invoke(app, [str(a) for a in arguments])

    return invoke


def test_json_is_the_report(run, dataset: Dataset, tmp_path: Path) -> None:
    result = run(tmp_path, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert list(report) == ["all"]
    assert list(report["all"]) == ["queries", "mAP-50", "mAP-100", "mAP", "recall@1", "mIoU"]
    assert report["all"]["queries"] == 2
    assert report["all"]["mAP"] > 0.5


def test_several_settings_in_one_run(run, dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "results" / "figures.json"
    result = run(tmp_path, "--regions", "grid", "--regions", "whole", "--bytes", 0, "--json", "--out", out)
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["setting"]["regions"] for line in lines] == ["grid", "whole"]
    assert [line["setting"]["regions_per_image"] for line in lines] == [30, 1]
    assert json.loads(out.read_text())["results"] == lines


def test_a_setting_without_enough_regions_is_left_out(run, dataset: Dataset, tmp_path: Path, caplog) -> None:
    result = run(tmp_path, "--bytes", 0, "--bytes", 16, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["setting"]["bytes"] == 0
    assert "too few regions" in caplog.text


def test_a_kept_gallery_is_gone_on_from(run, dataset: Dataset, tmp_path: Path) -> None:
    kept = tmp_path / "kept.claid"
    first = run(tmp_path, "--gallery", kept, "--json")
    stamp = kept.stat().st_size
    second = run(tmp_path, "--gallery", kept, "--json")
    assert first.stdout == second.stdout
    assert kept.stat().st_size == stamp


def test_table_for_the_eye(run, dataset: Dataset, tmp_path: Path) -> None:
    result = run(tmp_path, "--limit", 1)
    assert result.exit_code == 0, result.output
    assert "recall@1" in result.stdout
    assert "regions claid" in result.stdout


def test_a_source_is_text_whatever_it_looks_like(run, dataset: Dataset, tmp_path: Path) -> None:
    truth = json.loads((tmp_path / "gt.json").read_text())
    truth["queries"][0]["source"] = "a[/b]"
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    result = run(tmp_path)
    assert result.exit_code == 0, result.exception
    assert "a[/b]" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--regions", "trees"], "no regions 'trees'"),
        (["--bytes", "16"], "needs 512 regions"),
        (["--regions", "grid", "--regions", "whole", "--gallery", "g.claid"], "one --regions"),
    ],
)
def test_wrong_use_is_told(run, dataset: Dataset, tmp_path: Path, arguments: list[str], message: str) -> None:
    result = run(tmp_path, *arguments)
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)


def test_a_length_that_no_code_can_have_is_told_before_the_work(run, dataset: Dataset, tmp_path: Path) -> None:
    kept = tmp_path / "kept.claid"
    result = run(tmp_path, "--bytes", 7, "--gallery", kept)
    assert "codes of 7 bytes do not divide" in str(result.exception)
    assert not kept.exists()


def test_pictures_and_queries_that_cannot_be_used_are_named(run, dataset: Dataset, tmp_path: Path) -> None:
    truth = json.loads((tmp_path / "gt.json").read_text())
    asked = {query["image"] for query in truth["queries"]}
    broken = next(image["file"] for image in truth["images"] if image["id"] not in asked)
    (tmp_path / broken).write_bytes(b"no picture")
    result = run(tmp_path, "--json")
    assert result.exit_code == 0
    assert f"{broken}: not a picture" in result.stderr
    files = {image["id"]: image["file"] for image in truth["images"]}
    query = truth["queries"][0]
    (tmp_path / files[query["image"]]).unlink()
    said = str(run(tmp_path).exception)
    assert f"query {query['id']!r}: " in said
    assert files[query["image"]] in said


def test_boxes_give_region_recall(run, dataset: Dataset, tmp_path: Path) -> None:
    images = [{"id": image.id, "file": f"images/{image.path.name}"} for image in dataset.images[:2]]
    boxes = {images[0]["id"]: [[0, 0, 20, 20], [0, 0, 10, 10]], images[1]["id"]: [[1, 1, 2, 2]]}
    (tmp_path / "gt.json").write_text(json.dumps({"images": images, "boxes": boxes, "crowd": {}}))
    result = run(tmp_path, "--regions", "grid", "--regions", "whole", "--json")
    assert result.exit_code == 0, result.output
    grid, whole = (json.loads(line) for line in result.stdout.splitlines())
    # The tiny box is under every threshold; the quarter is a rectangle of the grid, and a quarter of the whole.
    np.testing.assert_allclose([grid["recall"]["0.9"], whole["recall"]["0.9"]], [2 / 3, 1 / 3])
    np.testing.assert_allclose([whole["recall"]["0.2"], whole["recall"]["0.3"]], [2 / 3, 1 / 3])
    assert (grid["regions_per_image"], whole["objects"]) == (30, 3)
    table = run(tmp_path, "--regions", "whole")
    assert "IoU 0.9" in table.stdout
