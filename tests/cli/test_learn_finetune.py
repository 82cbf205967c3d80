"""``learn udq --finetune`` as a user meets it, on the CPU, with a small network and made-up pictures."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
from typer.testing import CliRunner, Result

torch = pytest.importorskip("torch", reason="learning needs torch: pip install 'edge-claid[learn]'")

sys.path[:0] = [str(Path(__file__).parent.parent / folder) for folder in ("gallery", "learn")]

from lite_world import DEPTH, WIDTH, small_state  # noqa: E402
from made_up import described, write_picture  # noqa: E402

from edge_claid.cli import finetuning  # noqa: E402
from edge_claid.cli import learn as learn_verb  # noqa: E402
from edge_claid.cli.app import app  # noqa: E402
from edge_claid.cli.gallery import recoding  # noqa: E402
from edge_claid.config import DescriptorSettings, load_settings  # noqa: E402
from edge_claid.descriptors.pool import RegionPooling  # noqa: E402
from edge_claid.errors import EdgeClaidError, GalleryError, MachineError, UsageError  # noqa: E402
from edge_claid.frames.folder import PictureFiles  # noqa: E402
from edge_claid.frames.reading import read_picture  # noqa: E402
from edge_claid.gallery.enrolment.enroll import EnrollOptions, enroll  # noqa: E402
from edge_claid.gallery.lookup import calibration  # noqa: E402
from edge_claid.gallery.store import Gallery  # noqa: E402
from edge_claid.gallery.upkeep.verify import verify  # noqa: E402
from edge_claid.learn import gallery_network, machine  # noqa: E402
from edge_claid.models.efficientnet import efficientnet_lite_onnx  # noqa: E402
from edge_claid.models.exported import exported_file  # noqa: E402
from edge_claid.models.tuned import known_networks  # noqa: E402
from edge_claid.models.zoo import entry, zoo  # noqa: E402
from edge_claid.ops.reference.pool import pool_boxes  # noqa: E402
from edge_claid.records import Described, FeatureMap  # noqa: E402

IMAGES, REGIONS = 66, 8
BASE = "made-up"
SETTINGS = f'[networks]\ndescriptor = "{BASE}"\n[codes]\nwidth = 16\nbytes = 2\nviews = 0\n'


class SmallPipeline:
    """Made-up regions, described by the small network: the base's, or the fine-tuned one that the settings name."""

    def __init__(self, settings=None):
        self.id = (settings or load_settings()).networks.descriptor
        base = efficientnet_lite_onnx(small_state(), width=WIDTH, depth=DEPTH).SerializeToString()
        weights = base if self.id == BASE else exported_file(entry(self.id)).read_bytes()
        self._session = onnxruntime.InferenceSession(weights)
        parts = [output.shape[1] for output in self._session.get_outputs()]
        self.describe_settings = {"descriptor": {"name": self.id, "parts": parts}}
        self.descriptor_dim = sum(parts)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def descriptor_input(self, frame):
        return np.ascontiguousarray(frame.pixels.transpose(2, 0, 1)[None], np.float32) / np.float32(127.5) - 1

    def describe_many(self, frames):
        for frame in frames:
            regions = described(int(frame.pixels.astype(np.int64).sum()), REGIONS, frame.size).regions
            yield Described(regions, self._pooled(frame, regions.boxes))

    def described_views(self, pictures, count):
        for path, boxes in pictures:
            frame = read_picture(path)
            views = [replace(frame, pixels=frame.pixels // (1 + view)) for view in range(1 + count)]
            yield np.stack([self._pooled(view, boxes).values for view in views])

    def _pooled(self, frame, boxes):
        maps = [values[0] for values in self._session.run(None, {"image": self.descriptor_input(frame)})]
        feature_map = FeatureMap(maps[0], frame.size, tuple(maps[1:]))
        return RegionPooling(DescriptorSettings(), pool_boxes).describe(feature_map, boxes)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A gallery of made-up pictures, the small network in the zoo, and the CPU in place of the GPU."""
    (tmp_path / "edge-claid").mkdir()
    (tmp_path / "edge-claid" / "config.toml").write_text(SETTINGS)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("EDGE_CLAID_CACHE_DIR", str(tmp_path / "cache"))
    small = replace(entry("efficientnet-lite0"), name=BASE, build={"width": WIDTH, "depth": DEPTH})
    monkeypatch.setitem(zoo(), BASE, small)
    monkeypatch.setattr(gallery_network, "fetch_weights", lambda known: tmp_path / "edge-claid" / "config.toml")
    monkeypatch.setattr(gallery_network, "read_state_dict", lambda data: small_state())
    monkeypatch.setattr(gallery_network, "STEPS", 2)
    monkeypatch.setattr(finetuning, "_open_pipeline", SmallPipeline)
    monkeypatch.setattr(recoding, "open_pipeline", SmallPipeline)
    monkeypatch.setattr(machine, "training_device", lambda: torch.device("cpu"))
    for seed in range(IMAGES):
        write_picture(tmp_path / "photos" / f"{seed}.png", seed)
    with Gallery.open(tmp_path / "shop.claid", "create") as gallery:
        options = EnrollOptions(keep_descriptors=True)
        enroll(gallery, [PictureFiles("photos", str(tmp_path / "photos"))], SmallPipeline(), options)
    return tmp_path / "shop.claid"


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, ["learn", "udq", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def content(path: Path) -> tuple:
    with Gallery.open(path) as gallery:
        assert list(verify(gallery)) == []
        info = gallery.info()
        return info.pipeline_id, info.code_space, info.images, gallery.descriptors(10**6).tobytes()


def tuned_names() -> list[str]:
    return [known.name for known in known_networks() if known.tuned_from]


def test_a_gallery_moves_to_a_network_of_its_own(shop: Path) -> None:
    result = run(shop, "--finetune", "--refine", "bfr", "--iterations", 1, "--json")
    answer = json.loads(result.stdout)
    (name,) = tuned_names()
    assert name.startswith(f"{BASE}-udq-")
    assert answer == {
        "learned": True, "network": name, "regions": IMAGES * REGIONS, "bytes": 2, "refine": "bfr", "iterations": 1,
        "code_space": content(shop)[1], "settings": {"networks": {"descriptor": name}},
    }  # fmt: skip
    assert "step 4 of 4" in result.stderr
    with Gallery.open(shop) as gallery:
        assert calibration.stored(gallery, "search", "codes") is not None
    assert f'descriptor = "{name}"' in result.stderr
    assert content(shop)[::2] == (name, IMAGES)
    pictures = [cv2.imread(str(shop.parent / "photos" / f"{seed}.png"))[..., ::-1] for seed in (0, 7)]
    frames = [type("Frame", (), {"pixels": pixels, "size": (64, 48), "name": ""}) for pixels in pictures]
    pipeline = SmallPipeline(replace(load_settings(), networks=replace(load_settings().networks, descriptor=name)))
    with Gallery.open(shop) as gallery:
        stored = gallery.descriptors(10**6).astype(np.float32).reshape(IMAGES, REGIONS, -1)
        for wanted in pipeline.describe_many(frames):
            assert np.abs(stored - wanted.descriptors.values).max(axis=(1, 2)).min() < 1e-3
        assert gallery.space.projection.width == 16
        assert gallery.info().code_bytes == 2
    for wanted in SmallPipeline().describe_many(frames):  # the base describes otherwise
        assert np.abs(stored - wanted.descriptors.values).max(axis=(1, 2)).min() > 1e-3


def test_without_a_gpu_nothing_is_read_or_written(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("EDGE_CLAID_CACHE_DIR", str(shop.parent / "cache"))
    before = shop.read_bytes()
    for path in (shop, shop.with_name("none.claid")):
        for arguments in ((), ("--dry-run",)):
            with pytest.raises(MachineError, match=r"needs a GPU.*needs no GPU") as raised:
                run(path, "--finetune", *arguments)
            assert raised.value.exit_code == 3
    assert shop.read_bytes() == before
    assert not (shop.parent / "cache").exists()
    assert not shop.with_name("none.claid").exists()


@pytest.mark.parametrize("moment", ["learning", "moving"])
def test_ctrl_c_leaves_the_old_gallery(shop: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    def interrupt(*arguments):
        raise KeyboardInterrupt

    before = content(shop)
    with monkeypatch.context() as patch:
        if moment == "learning":
            patch.setattr(learn_verb, "_tell_progress", interrupt)
        else:
            patch.setattr(finetuning.FileProgress, "advance", interrupt)
        with pytest.raises(KeyboardInterrupt):
            learn_verb.udq(shop, None, "none", 0, 0, True, False, False)
    assert content(shop) == before
    assert len(tuned_names()) == (moment == "moving")
    if moment == "moving":  # the command that was told goes on
        (shop.parent / "edge-claid" / "config.toml").write_text(SETTINGS.replace(BASE, tuned_names()[0]))
        result = CliRunner().invoke(app, ["gallery", "reencode", str(shop)])
        assert result.exit_code == 0, result.output
        assert content(shop)[::2] == (tuned_names()[0], IMAGES)


def refused(path: Path, error: type[EdgeClaidError], words: str, *arguments: object) -> None:
    before = content(path)
    with pytest.raises(error, match=words):
        run(path, "--finetune", *arguments)
    assert content(path) == before
    assert tuned_names() == []


def test_what_cannot_work_is_refused_before_anything_is_learned(shop: Path) -> None:
    refused(shop, UsageError, "5 bytes do not divide 16", "--bytes", 5)
    config = shop.parent / "edge-claid" / "config.toml"
    config.write_text(SETTINGS.replace(BASE, f"{BASE}-udq-01234567"))
    refused(shop, UsageError, f"fine-tuned already: set descriptor = '{BASE}'")
    config.write_text(SETTINGS.replace(BASE, "resnet18"))
    refused(shop, UsageError, "resnet18 cannot be fine-tuned")
    config.write_text(SETTINGS)
    (shop.parent / "photos" / "3.png").unlink()
    refused(shop, GalleryError, r"the pictures of 1 images are gone.*3\.png.*--drop-missing")


def test_a_picture_that_has_changed_is_refused(shop: Path) -> None:
    write_picture(shop.parent / "photos" / "5.png", 5, size=(80, 48))
    refused(shop, GalleryError, r"5\.png has changed since")


def test_a_dry_run_says_what_would_be_done(shop: Path) -> None:
    before = content(shop)
    answer = json.loads(run(shop, "--finetune", "--dry-run", "--json").stdout)
    assert (answer["learned"], answer["base"], answer["regions"]) == (False, BASE, IMAGES * REGIONS)
    assert content(shop) == before
    assert tuned_names() == []
