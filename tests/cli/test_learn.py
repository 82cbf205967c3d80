"""``learn udq`` as a user meets it, with a made-up pipeline in place of the networks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

pytest.importorskip("torch", reason="learning needs torch: pip install 'edge-claid[learn]'")

sys.path.insert(0, str(Path(__file__).parent))

import learn_world
from learn_world import IMAGES, REGIONS, SETTINGS, at_moment, make_gallery, open_made_up

import edge_claid.cli.learn as learn_verb
from edge_claid import ops
from edge_claid.cli.app import app
from edge_claid.errors import EdgeClaidError, GalleryError, UsageError
from edge_claid.gallery.lookup import calibration
from edge_claid.gallery.lookup.search import GallerySearch
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.upkeep.verify import verify
from edge_claid.records import Descriptors

EVERY_IMAGE = f"images {IMAGES}"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A coded gallery, and settings that fit its narrow descriptors."""
    (tmp_path / "edge-claid").mkdir()
    (tmp_path / "edge-claid" / "config.toml").write_text(SETTINGS)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(learn_verb, "open_pipeline", open_made_up)
    make_gallery(tmp_path / "shop.claid")
    return tmp_path / "shop.claid"


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, ["learn", "udq", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def content(path: Path) -> tuple[str | None, bytes, int]:
    """Code-space id, all codes, and images with descriptors."""
    with Gallery.open(path) as gallery:
        assert list(verify(gallery)) == []
        info = gallery.info()
        with gallery.reading() as connection:
            codes = connection.execute("SELECT content FROM codes ORDER BY image").fetchall()
        return info.code_space, b"".join(row[0] for row in codes), info.described_images


@pytest.mark.parametrize("refine", ["none", "bfr", "pbr", "cbr"])
def test_a_gallery_adopts_what_was_learned(shop: Path, refine: str) -> None:
    before = content(shop)
    result = run(shop, "--refine", refine, "--bytes", 2, "--json")
    answer = json.loads(result.stdout)
    after = content(shop)
    assert answer == {
        "learned": True, "regions": IMAGES * REGIONS, "bytes": 2, "refine": refine, "iterations": 2,
        "code_space": after[0],
    }  # fmt: skip
    assert after[0] != before[0]
    assert len(after[1]) == IMAGES * REGIONS * 2
    assert after[2] == IMAGES
    assert "step 150 of 150" in result.stderr
    with Gallery.open(shop) as gallery:
        codes = gallery.space.encode(gallery.descriptors(10**6).astype(np.float32))
    assert codes.tobytes() == after[1]


def test_how_sure_answers_are_is_known_in_the_new_codes(shop: Path) -> None:
    run(shop, "--iterations", 0)
    with Gallery.open(shop) as gallery:
        curve = calibration.stored(gallery, "search", "codes")
        assert curve is not None
        assert curve.measured
        assert curve.space.startswith(gallery.space.id)
        search = GallerySearch(gallery, ops.load("reference").code_scan)
        (hit,) = search.query(Descriptors(gallery.descriptors(8)[:1].astype(np.float32)), 1)
    assert 0 < hit.match < 1


def test_code_length_stays_unless_another_is_asked_for(shop: Path) -> None:
    assert "4 bytes a region" in run(shop, "--iterations", 0).stdout
    with Gallery.open(shop) as gallery:
        assert gallery.info().code_bytes == 4


def test_a_gallery_without_codes_is_learned_from_as_well(shop: Path) -> None:
    fresh = shop.with_name("fresh.claid")
    make_gallery(fresh, coded=False)
    run(fresh, "--iterations", 0)
    assert content(fresh)[0] is not None


def test_a_dry_run_writes_nothing(shop: Path) -> None:
    before = shop.read_bytes()
    result = run(shop, "--dry-run", "--json", "--bytes", 8)
    assert json.loads(result.stdout)["learned"] is False
    assert json.loads(result.stdout)["regions"] == IMAGES * REGIONS
    assert shop.read_bytes() == before


def refused(path: Path, error: type[EdgeClaidError], words: str, *arguments: object) -> None:
    before = path.read_bytes()
    with pytest.raises(error, match=words):
        run(path, *arguments)
    assert path.read_bytes() == before


def test_what_cannot_work_is_refused_and_nothing_written(shop: Path) -> None:
    refused(shop, UsageError, "5 bytes do not divide 16", "--bytes", 5)
    refused(shop, UsageError, "none, bfr, pbr, cbr", "--refine", "pca")
    refused(shop, UsageError, "iterations >= 0", "--iterations", -1)


def test_a_gallery_without_descriptors_is_told_how_to_get_them(shop: Path) -> None:
    bare = shop.with_name("bare.claid")
    make_gallery(bare, keep=False)
    refused(bare, GalleryError, "--keep-descriptors")
    refused(bare, GalleryError, "--keep-descriptors", "--dry-run")


def test_too_few_regions_are_refused_with_the_number_needed(shop: Path) -> None:
    small = shop.with_name("small.claid")
    make_gallery(small, images=20, coded=False)
    refused(small, UsageError, "needs 512 regions.*has 160")


def test_nan_among_the_stored_descriptors_is_refused(shop: Path) -> None:
    with Gallery.open(shop, "rw") as gallery, gallery.writing() as connection:
        whole = connection.execute("SELECT content FROM descriptors WHERE image = 3").fetchone()[0]
        broken = np.frombuffer(whole, "<f2").copy()
        broken[5] = np.nan
        connection.execute("UPDATE descriptors SET content = ? WHERE image = 3", (broken.tobytes(),))
    refused(shop, UsageError, "NaN")


def test_another_pipelines_gallery_is_refused(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learn_world.MadeUpPipeline.__init__, "__defaults__", ("bb22", {"network": "other"}, "\0"))
    refused(shop, GalleryError, "another pipeline")


@pytest.mark.parametrize("moment", ["step 50", "step 150", "images 64", EVERY_IMAGE])
def test_ctrl_c_leaves_the_old_gallery(shop: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    for name in ("_tell_progress", "_count"):
        monkeypatch.setattr(learn_verb, name, getattr(learn_verb, name))
    at_moment(moment, interrupt)
    before = content(shop)
    with pytest.raises(KeyboardInterrupt):
        learn_verb.udq(shop, code_bytes=2)
    assert content(shop) == before


@pytest.mark.parametrize("moment", ["step 100", EVERY_IMAGE])
def test_kill_leaves_the_old_gallery_and_the_next_run_ends(shop: Path, moment: str) -> None:
    before = content(shop)
    program = [sys.executable, str(Path(learn_world.__file__)), moment, "learn", "udq", str(shop), "--bytes", "2"]
    killed = subprocess.run(program, env=os.environ, capture_output=True, text=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert content(shop) == before
    run(shop, "--bytes", 2)
    assert content(shop)[0] != before[0]
