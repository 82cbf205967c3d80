"""The decomposition without Python: on arm64 under an emulator, and under the sanitizers."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from decomposition_cases import Case, golden_cases, made_cases, same, unusable

from edge_claid.ops.cpu import decomposition_op as cpu
from edge_claid.ops.reference import decomposition as reference
from edge_claid.ops.reference.region_tree import Tree

SOURCE = Path(__file__).parent / "decomposition_driver"
EMULATOR, CROSS_COMPILER = "qemu-aarch64", "aarch64-linux-gnu-g++"
SANITIZE = "-fsanitize=address,undefined -fno-sanitize-recover=all"


CMAKE = shutil.which("cmake", path=str(Path(sys.executable).parent)) or shutil.which("cmake")


def need(*programs: str) -> None:
    if CMAKE is None:
        pytest.skip("cmake is not installed")
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def built_driver(folder: Path, *definitions: str) -> Path:
    subprocess.run([CMAKE, "-S", SOURCE, "-B", folder, *definitions], check=True, capture_output=True)
    subprocess.run([CMAKE, "--build", folder, "-j", "2"], check=True, capture_output=True)
    return folder / "decomposition_driver"


@pytest.fixture(scope="module")
def arm_driver(tmp_path_factory):
    need(EMULATOR, CROSS_COMPILER)
    return built_driver(
        tmp_path_factory.mktemp("arm64"),
        "-DCMAKE_BUILD_TYPE=Release",
        "-DCMAKE_SYSTEM_NAME=Linux",
        "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
        f"-DCMAKE_CXX_COMPILER={CROSS_COMPILER}",
        "-DCMAKE_EXE_LINKER_FLAGS=-static",
    )


@pytest.fixture(scope="module")
def sanitized_driver(tmp_path_factory):
    need("c++")
    return built_driver(
        tmp_path_factory.mktemp("sanitized"), "-DCMAKE_BUILD_TYPE=RelWithDebInfo", f"-DCMAKE_CXX_FLAGS={SANITIZE}"
    )


def isas_of(*driver: str | Path) -> list[str]:
    return subprocess.run([*driver, "--isas"], check=True, capture_output=True, text=True).stdout.split()


def written_case(case: Case) -> bytes:
    options = {"alpha": 0.2, "tau1": 0.97, "energy_share": 0.3, "smallest": 15, "max_nodes": 4096, "center": None}
    options |= case.options
    center = options["center"]
    rank = reference.high_energy_rank(len(case.features), options["energy_share"])
    whole = (*case.grid, case.features.shape[1], center is not None, rank, options["smallest"], options["max_nodes"])
    head = struct.pack("<7q2d", *whole, options["alpha"], options["tau1"])
    return head + (b"" if center is None else center.astype("<f4").tobytes()) + case.features.astype("<f4").tobytes()


def read_trees(path: Path) -> list[Tree | None]:
    data, at, trees = path.read_bytes(), 0, []

    def take(dtype: str, *shape: int) -> np.ndarray:
        nonlocal at
        values = np.frombuffer(data, dtype, int(np.prod(shape)), at).reshape(shape)
        at += values.nbytes
        return values

    while at < len(data):
        nodes, mask_bytes = take("<i8", 2).tolist()
        if nodes < 0:
            trees.append(None)
            continue
        masks = take("u1", nodes, mask_bytes)
        whole = [take("<i4", nodes) for _ in range(4)]
        trees.append(Tree(masks, *whole, take("<i8", nodes)))
    return trees


def trees_from(driver: list, cases: list[Case], isa: str, mode: str, folder: Path) -> list[Tree | None]:
    (folder / "cases").write_bytes(b"".join(map(written_case, cases)))
    command = [*driver, folder / "cases", folder / "trees", isa, mode]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return read_trees(folder / "trees")


@pytest.fixture(scope="module")
def cases(shared_data) -> list[Case]:
    real = golden_cases(shared_data)
    keys = [key for key in real if key.startswith("l8_37") or "Papaya" in key]
    return [*made_cases().values(), *(real[key] for key in keys)]


@pytest.mark.parametrize(("processor", "isa"), [("max", "dot"), ("max", "portable"), ("cortex-a53", "auto")])
def test_arm64_gives_the_references_trees(arm_driver, cases, processor, isa, tmp_path):
    driver = [EMULATOR, "-cpu", processor, arm_driver]
    assert isas_of(*driver) == (["dot", "portable"] if processor == "max" else ["portable"])
    trees = trees_from(driver, cases, isa, "integer", tmp_path)
    assert len(trees) == len(cases)
    assert max(len(tree) for tree in trees) > 20
    for case, tree in zip(cases, trees, strict=True):
        assert same(tree, reference.decompose(case.features, case.grid, **case.options))


def test_arm64_refuses_tokens_that_are_not_finite(arm_driver, tmp_path):
    cases = [Case(features, (4, 4)) for features in unusable().values()]
    assert trees_from([EMULATOR, "-cpu", "max", arm_driver], cases, "dot", "integer", tmp_path) == [None] * len(cases)


@pytest.mark.parametrize("isa", cpu.supported_isas())
def test_the_sanitizers_find_nothing(sanitized_driver, isa, tmp_path):
    assert isas_of(sanitized_driver) == cpu.supported_isas()
    cases = [*made_cases().values(), *(Case(features, (4, 4)) for features in unusable().values())]
    trees = trees_from([sanitized_driver], cases, isa, "integer", tmp_path)
    made = list(made_cases().values())
    assert trees[len(made) :] == [None] * len(unusable())
    for case, tree in zip(made, trees, strict=False):
        assert same(tree, cpu.decompose(case.features, case.grid, **case.options))
    for mode in ("float", "released"):
        assert sum(tree is not None for tree in trees_from([sanitized_driver], cases, isa, mode, tmp_path)) == len(made)
    alike = [case for case in made if len(case.features) == 288 and not case.options]
    assert len(trees_from([sanitized_driver], alike, isa, "batch", tmp_path)) == len(alike) > 3
