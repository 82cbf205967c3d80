"""Small rounds of the fault tools, and proof that their checks find what they are to find."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import file_faults
import numpy as np
import pytest
from write_log import Disk, Record

TOOLS = Path(__file__).resolve().parents[2] / "tools"

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the fault tools are for Linux")
needs_compiler = pytest.mark.skipif(file_faults.compiler() is None, reason="no C compiler (package gcc)")


def ran(tool: str, out: Path, *options: str, code: int = 0) -> dict:
    """Run a tool; its results file."""
    command = [sys.executable, str(TOOLS / tool), "--out", str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(out.read_text())


def test_a_killed_command_loses_doubles_and_breaks_nothing(tmp_path: Path) -> None:
    figures = ran("power_cut.py", tmp_path / "r.json", "--rounds", "15", "--seed", "5")["kill"]
    assert figures["rounds"] == 15
    assert figures["cuts"] >= 15
    assert sum(count > 0 for count in figures["rounds_by_operation"].values()) >= 3
    assert {figures[kind] for kind in ("lost", "doubled", "unreadable", "unasked", "failed", "hung")} == {0}


@pytest.mark.skipif(not Path("/usr/lib/uml/modules").is_dir(), reason="no user-mode Linux (package user-mode-linux)")
@pytest.mark.skipif(shutil.which("mkfs.vfat", path="/usr/sbin:/sbin") is None, reason="no mkfs.vfat (dosfstools)")
def test_a_killed_command_on_vfat(tmp_path: Path) -> None:
    options = ("--rounds", "1", "--seed", "5", "--operations", "enrol")
    figures = ran("power_cut_vfat.py", tmp_path / "r.json", *options)["kill_vfat"]
    assert figures["rounds"] == 1
    assert figures["findings"] == []
    assert figures["file_system_after_it"] == "sound"
    assert figures["kernel"] != platform.release()


@needs_compiler
def test_a_disk_that_loses_what_was_not_synced(tmp_path: Path) -> None:
    figures = ran("lost_writes.py", tmp_path / "r.json", "--rounds", "8", "--seed", "5")["lost_writes"]
    assert figures["cuts_with_unsynced_changes"] > 0
    assert figures["findings"] == []


@needs_compiler
def test_without_its_syncs_a_gallery_does_lose_images(tmp_path: Path) -> None:
    options = ("--rounds", "8", "--without-sync")
    figures = ran("lost_writes.py", tmp_path / "r.json", *options, code=1)["lost_writes"]
    assert figures["lost"] + figures["unreadable"] > 0


@needs_compiler
def test_full_disks_errors_and_pulled_sticks(tmp_path: Path) -> None:
    options = ("--full-disk", "300", "--errors", "4", "--pulled", "3", "--seed", "5")
    figures = ran("io_faults.py", tmp_path / "r.json", *options)
    assert figures["full_disk"]["exit 9"] > 0
    assert figures["io_errors"]["rounds"] == 4
    assert figures["stick_pulled"]["rounds"] == 3
    assert all(part["findings"] == [] for part in figures.values())


CHECKED = """
import sys
from pathlib import Path
sys.path.insert(0, {tools!r})
import power_cut, forked
from cut_enrolment import enrol
from cut_world import World, check
from edge_claid.gallery.store import Gallery

world = World(Path({place!r}), 0)
step = enrol(world)
ended = forked.run(step.work)
whole = check(world, frozenset(), step, ended.out, done=True)
with Gallery.open(world.gallery, "rw") as gallery:
    rows = list(gallery.images())
    gallery.remove([rows[0].id])
other = enrol(world)
unasked = check(world, frozenset(), other, [], done=True)
lost = check(world, frozenset(), step, ended.out, done=False)
with Gallery.open(world.gallery, "rw") as gallery, gallery.writing() as connection:
    connection.execute("UPDATE masks SET packed = zeroblob(20) WHERE image = ?", (rows[1].id,))
damaged = check(world, step.after - {{rows[0].content_hash}}, step, [], done=False)
print(len(rows), dict(whole.counts), dict(lost.counts), set(damaged.counts), unasked.counts["unasked"] > 0)
"""


def test_the_checks_find_what_is_lost_damaged_and_unasked(tmp_path: Path) -> None:
    program = CHECKED.format(tools=str(TOOLS), place=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(" ", 1)[1] == "{} {'lost': 1} {'unreadable'} True\n"


def calls(*some: tuple) -> list[Record]:
    """(kind, descriptor, first, second, body) as the layer records them."""
    return [Record(kind, file, first, second, body) for kind, file, first, second, body in some]


def states(disk: Disk, count: int = 200) -> list[dict[str, bytes]]:
    return [disk.after_cut(np.random.default_rng(seed)) for seed in range(count)]


def test_what_was_synced_outlives_a_cut_and_nothing_else_must() -> None:
    disk = Disk(Path("/d"), {"/d/a": b"old" * 1000})
    for record in calls(("O", 3, 1, 0, b"/d/a"), ("W", 3, 0, 3, b"new"), ("S", 3, 0, 0, b""), ("W", 3, 600, 3, b"new")):
        disk.replay(record)
    found = {state["/d/a"][:3] + state["/d/a"][600:603] for state in states(disk)}
    assert found == {b"newold", b"newnew"}
    disk.replay(*calls(("T", 3, 0, 0, b"")))
    assert {len(state["/d/a"]) for state in states(disk)} >= {0, 3000}


def test_a_large_write_is_torn_at_sectors() -> None:
    disk = Disk(Path("/d"), {"/d/a": bytes(2048)})
    for record in calls(("O", 3, 1, 0, b"/d/a"), ("W", 3, 0, 2048, b"x" * 2048)):
        disk.replay(record)
    contents = {state["/d/a"] for state in states(disk)}
    assert len(contents) > 4
    assert all(content[at : at + 512] in (b"x" * 512, bytes(512)) for content in contents for at in range(0, 2048, 512))


def test_names_are_lost_until_their_folder_is_synced() -> None:
    disk = Disk(Path("/d"), {"/d/old": b"1"})
    made = calls(("O", 3, 0, 0, b"/d/new"), ("W", 3, 0, 1, b"2"), ("S", 3, 0, 0, b""), ("C", 3, 0, 0, b""))
    for record in made:
        disk.replay(record)
    assert {frozenset(state) for state in states(disk)} == {frozenset({"/d/old"}), frozenset({"/d/old", "/d/new"})}
    for record in calls(("R", -1, 0, 0, b"/d/new\0/d/old"), ("O", 4, 1, 0, b"/d"), ("S", 4, 0, 0, b"")):
        disk.replay(record)
    assert states(disk, 20) == [{"/d/old": b"2"}] * 20
    assert not disk.at_risk


@needs_compiler
def test_the_layer_compiles_without_a_warning(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc") or "clang"
    command = [compiler, "-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC", "-o", tmp_path / "f.so"]
    subprocess.run([*command, file_faults.SOURCE, "-ldl", "-lpthread"], check=True)
