"""The scan, encode and pooling ops as plain programs, under sanitizers and on arm64 by emulation: as the reference."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edge_claid.ops.cpu import _pool
from edge_claid.ops.reference import encode as reference_encode
from edge_claid.ops.reference.scan import CodeScan, code_distances

HERE = Path(__file__).parent
SOURCES = HERE.parents[1] / "edge_claid" / "ops" / "cpu"
WIDE = {"avx2": ["-mavx2"], "avx512": ["-mavx512f", "-mavx512bw", "-mavx512vbmi"]}
FLAGS = ["-std=c++17", "-ffp-contract=off", "-pthread", "-Wall", "-Wextra", "-Werror"]
ON_X86 = platform.machine() in ("x86_64", "AMD64")


def compiled(op: str, folder: Path, compiler: str, flags: list[str], x86: bool) -> Path:
    """Build the driver of an op: each kernel with its own instruction set."""
    objects = []
    for source in [*sorted((SOURCES / op).glob("*.cpp")), HERE / f"{op}_driver.cpp"]:
        instructions = next((WIDE[name] for name in WIDE if source.stem == f"kernel_{name}"), [])
        if source.stem == "module" or (instructions and not x86):
            continue
        objects.append(str(folder / f"{source.stem}.o"))
        define = [f"-D{op.upper()}_X86"] if x86 else []
        command = [compiler, *FLAGS, *flags, *instructions, *define, f"-I{SOURCES / op}", "-c", str(source)]
        subprocess.run([*command, "-o", objects[-1]], check=True)
    program = folder / f"{op}_driver"
    subprocess.run([compiler, *FLAGS, *flags, *objects, "-o", str(program)], check=True)
    return program


def command_on(target: str, op: str, folder: Path) -> list[str]:
    """The command that runs an op's driver on a target; skips where a tool is missing."""
    if target == "sanitizers":
        compiler = shutil.which("g++")
        if compiler is None:
            pytest.skip("no g++: install it to run the ops under sanitizers")
        flags = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
        return [str(compiled(op, folder, compiler, flags, ON_X86))]
    compiler, emulator = shutil.which("aarch64-linux-gnu-g++"), shutil.which("qemu-aarch64")
    if compiler is None or emulator is None:
        pytest.skip("no arm64 compiler or emulator: install g++-aarch64-linux-gnu and qemu-user")
    return [emulator, str(compiled(op, folder, compiler, ["-O3", "-static"], False))]


@pytest.fixture(scope="module", params=["sanitizers", "arm64"])
def scan_command(request, tmp_path_factory):
    return command_on(request.param, "scan", tmp_path_factory.mktemp("scan"))


@pytest.fixture(scope="module", params=["sanitizers", "arm64"])
def encode_command(request, tmp_path_factory):
    return command_on(request.param, "encode", tmp_path_factory.mktemp("encode"))


@pytest.fixture(scope="module", params=["sanitizers", "arm64"])
def pool_command(request, tmp_path_factory):
    return command_on(request.param, "pool", tmp_path_factory.mktemp("pool"))


def kernels_of(command: list[str]) -> list[str]:
    listed = subprocess.run([*command, "list"], capture_output=True, check=True, text=True).stdout.split()
    return ["auto", *listed]


def answer(command: list[str], kernel: str, head: list[int], arrays: list[np.ndarray]) -> bytes:
    case = kernel.encode().ljust(16, b"\0") + np.array(head, "<i8").tobytes() + b"".join(a.tobytes() for a in arrays)
    done = subprocess.run(command, input=case, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


ENTRY = np.dtype([("image", "<i4"), ("distance", "<f4"), ("region", "<i8")])


@pytest.mark.parametrize(
    ("subspaces", "regions", "pieces", "queries", "k", "threads", "filtered"),
    [
        (8, 20_011, 7, 3, 50, 1, False),
        (8, 20_011, 1, 2, 50, 2, True),
        (16, 9000, 3, 1, 10, 1, True),
        (32, 4097, 2, 2, 600, 1, False),
        (5, 700, 700, 1, 7, 1, False),
        (4, 0, 1, 2, 3, 1, False),
    ],
)
def test_scan(scan_command, subspaces, regions, pieces, queries, k, threads, filtered):
    rng = np.random.default_rng([subspaces, regions])
    codes = rng.integers(0, 256, (regions, subspaces), dtype=np.uint8)
    images = np.sort(rng.integers(0, 500, regions)).astype(np.int32)
    removed = rng.choice(500, 100, replace=False).astype(np.int32)
    allowed = rng.random(450) < 0.7
    tables = rng.gamma(4.0, 0.1, (queries, subspaces, 256)).astype(np.float32)
    reference = CodeScan(subspaces)
    reference.append(codes, images)
    reference.remove(removed)
    expected = reference.search(tables, k, allowed if filtered else None)
    head = [subspaces, regions, pieces, len(removed), len(allowed) if filtered else -1, queries, k, threads]
    arrays = [codes, images, removed, *([allowed] if filtered else []), tables]
    names = kernels_of(scan_command)
    assert len(names) >= 2
    for kernel in names:
        out = answer(scan_command, kernel, head, arrays)
        found = np.frombuffer(out, ENTRY, queries * k).reshape(queries, k)
        for field, array in zip(("image", "distance", "region"), expected, strict=True):
            np.testing.assert_array_equal(found[field], array, err_msg=f"{kernel} {field}")
        distances = np.frombuffer(out, "<f4", regions, found.nbytes)
        np.testing.assert_array_equal(distances, code_distances(tables[0], codes))


@pytest.mark.parametrize(
    ("rows", "subspaces", "width", "threads"), [(1, 1, 1, 1), (33, 4, 12, 1), (7, 8, 48, 1), (600, 2, 5, 2)]
)
def test_encode(encode_command, rows, subspaces, width, threads):
    rng = np.random.default_rng([rows, width])
    dimensions = subspaces * width
    values = rng.normal(size=(rows, dimensions)).astype(np.float32)
    rotation = np.linalg.qr(rng.normal(size=(dimensions, dimensions)))[0].astype(np.float32)
    codewords = rng.normal(size=(subspaces, width, 256)).astype(np.float32)
    rotated = reference_encode.rotate(values, rotation)
    codes, distances = reference_encode.nearest_codewords(rotated, codewords)
    expected = [rotated, reference_encode.lookup_tables(rotated, codewords), codes, distances]
    for kernel in kernels_of(encode_command):
        head, arrays = [rows, subspaces, width, threads], [values, rotation, codewords]
        out = answer(encode_command, kernel, head, arrays)
        start = 0
        for array in expected:
            found = np.frombuffer(out, array.dtype, array.size, start).reshape(array.shape)
            np.testing.assert_array_equal(found, array, err_msg=kernel)
            start += array.nbytes
        assert start == len(out)


@pytest.mark.parametrize("power", [3.0, np.inf])
@pytest.mark.parametrize(("shape", "tokens"), [((5, 7, 9), (0, 0)), ((3, 19, 28), (16, 23)), ((2, 1, 1), (3, 2))])
def test_pooling_is_the_same_with_narrow_vectors_and_on_arm64(pool_command, shape, tokens, power):
    rng = np.random.default_rng(shape)
    limits = np.array(shape[:0:-1], np.float32)
    corners = np.sort(rng.random((20, 2, 2)), axis=1) * limits
    boxes = corners.reshape(20, 4).astype(np.float32)
    boxes[:2] = [[0, 0, *limits], [*(limits - 0.25), *limits]]
    values = rng.gamma(1.0, 1.0, shape).astype(np.float32)
    masks = (rng.random((20, *tokens)) < 0.5).astype(np.uint8)
    arrays = [np.array([power]), values, boxes, masks]
    found = np.frombuffer(answer(pool_command, "", [*shape, 20, *tokens], arrays), np.float32)
    wanted = _pool.pool_boxes(values, boxes, power, masks if all(tokens) else None)
    assert wanted.std() > 0.01
    np.testing.assert_array_equal(found.reshape(wanted.shape), wanted)
