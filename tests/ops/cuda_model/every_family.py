"""Runs every family of kernels once: on the model, built with sanitizers, or on a GPU under compute-sanitizer.

Usage: every_family.py FOLDER ORDER, with CUDA_MODEL_FLAGS and PYTHONPATH as test_cuda_model.py sets them; ORDER is a
thread order of the model, or "gpu". FOLDER keeps what was compiled. Ends with another status than 0 at a wrong answer.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import numpy as np
from decomposition_cases import Case, made_cases, same
from model_device import ModelDevice

from edge_claid.ops.cpu import _encode
from edge_claid.ops.cpu import decomposition_op as cpu
from edge_claid.ops.cuda import decomposition_op, scan_op
from edge_claid.ops.cuda.device import Device
from edge_claid.ops.cuda.encode_op import CudaCoder
from edge_claid.ops.cuda.pool_op import MapPooling, RegionsOfMaps, pool_boxes
from edge_claid.ops.cuda.preprocess_op import network_planes
from edge_claid.ops.reference.pool import pool_boxes as reference_pool
from edge_claid.ops.reference.scan import CodeScan as ReferenceScan


def decompose(device: Device) -> None:
    cases = made_cases()
    for name in ("clusters 20x20x5", "small parts", "one row", "one token", "width 1"):
        case = cases[name]
        (tree,) = decomposition_op.decompose_batch(device, [case.features], case.grid, **case.options)
        assert same(tree, cpu.decompose(case.features, case.grid, **case.options)), name
    choose_regions(device, cases["small parts"])


def choose_regions(device: Device, case: Case) -> None:
    with contextlib.ExitStack() as stack:
        op = stack.enter_context(decomposition_op.CudaDecomposition(device, 2, case.grid, case.features.shape[1]))
        given = [np.stack([case.features, case.features[::-1]]), np.array([[640, 427], [9, 9]], np.int32)]
        uploaded = [device.upload(values) for values in given]
        for array in uploaded:
            stack.callback(array.close)
        found = op.run(uploaded[0], smallest=2).regions(uploaded[1], -1.0, 1.0)
        stack.callback(found.close)
        counts = device.download(found.arrays["counts"])
    trees = [cpu.decompose(features, case.grid, smallest=2) for features in given[0]]
    assert counts.tolist() == [len(tree) for tree in trees]


def scan(device: Device, rng: np.random.Generator) -> None:
    scan_op.SAMPLED_CHUNKS = 1
    for subspaces in scan_op.SUBSPACES:
        codes = rng.integers(0, 256, (3000, subspaces), dtype=np.uint8)
        images = np.sort(rng.integers(0, 200, 3000)).astype(np.int32)
        reference = ReferenceScan(subspaces)
        with scan_op.CodeScan(device, subspaces) as found:
            for each in (reference, found):
                each.append(codes, images)
                each.remove(np.arange(0, 200, 7, dtype=np.int32))
            for queries in (1, 5):
                tables = rng.gamma(4.0, 0.1, (queries, subspaces, 256)).astype(np.float32)
                allowed = rng.random(150) < 0.5
                for a, b in zip(reference.search(tables, 9, allowed), found.search(tables, 9, allowed), strict=True):
                    np.testing.assert_array_equal(a, b)
            ranges = np.array([7, 900], np.int64), np.array([700, 2999], np.int64)
            np.testing.assert_array_equal(
                reference.region_distances(tables[0], *ranges), found.region_distances(tables[0], *ranges)
            )


def encode(device: Device, rng: np.random.Generator) -> None:
    matrix = rng.standard_normal((21, 16)).astype(np.float32)
    centroids = rng.standard_normal((4, 256, 4)).astype(np.float32)
    rotation = np.linalg.qr(rng.standard_normal((16, 16)))[0].astype(np.float32)
    with contextlib.ExitStack() as stack:
        coder = stack.enter_context(CudaCoder(device, matrix[:, 0], matrix, rotation, centroids))
        arrays = [device.upload(rng.standard_normal((5, 21)).astype(np.float32))]
        made = (((5, 16), np.float32), ((5, 4), np.uint8), ((5, 4, 256), np.float32))
        arrays += [device.empty(shape, kind) for shape, kind in made]
        for array in arrays:
            stack.callback(array.close)
        coder.project(arrays[0], arrays[1])
        coder.encode(arrays[1], arrays[2])
        coder.tables(arrays[1], arrays[3])
        codewords = np.ascontiguousarray(centroids.transpose(0, 2, 1))
        wanted = _encode.nearest_codewords(device.download(arrays[1]), codewords)[0]
        np.testing.assert_array_equal(device.download(arrays[2]), wanted)
        tables = device.download(arrays[3])
        np.testing.assert_array_equal(tables, _encode.lookup_tables(device.download(arrays[1]), codewords))


def opened(folder: Path, order: str) -> Device:
    if order != "gpu":
        return ModelDevice(folder, order)
    from edge_claid.ops.cuda.pycuda_device import PycudaDevice

    return PycudaDevice(cache_dir=folder)


def pool(device: Device, rng: np.random.Generator) -> None:
    values = rng.gamma(1.0, 1.0, (40, 5, 6)).astype(np.float32)
    boxes = np.array([[0, 0, 6, 5], [0.5, 1.2, 3.1, 2], [5.5, 4.5, 6, 5]], np.float32)
    np.testing.assert_allclose(pool_boxes(device, values, boxes, 3.0), reference_pool(values, boxes, 3.0), rtol=1e-5)
    masks = (rng.random((3, 4, 9)) < 0.5).astype(np.uint8)
    wanted = reference_pool(values, boxes, 3.0, masks)
    np.testing.assert_allclose(pool_boxes(device, values, boxes, 3.0, masks), wanted, rtol=1e-5, atol=1e-7)
    pool_to_unit_norm(device, np.stack([values, values[::-1]]))


def pool_to_unit_norm(device: Device, values: np.ndarray) -> None:
    with contextlib.ExitStack() as stack:
        pixels = np.array([[0, 0, 60, 50], [5, 9, 40, 30], [0, 0, 60, 50]], np.float32)
        sizes = np.array([[60, 50], [60, 50]], np.int32)
        given = (values, pixels, np.array([0, 1, 1], np.int32), sizes)
        maps, *of_regions = (device.upload(each) for each in given)
        pooled = device.empty((3, values.shape[1]), np.float32)
        for array in (maps, *of_regions, pooled):
            stack.callback(array.close)
        stack.enter_context(MapPooling(device, 3.0, 1.0)).pool(maps, RegionsOfMaps(*of_regions), pooled)
        np.testing.assert_allclose(np.linalg.norm(device.download(pooled), axis=1), 1.0, rtol=1e-5)


def preprocess(device: Device, rng: np.random.Generator) -> None:
    nv12 = device.upload(rng.integers(0, 256, (45, 38), dtype=np.uint8))
    planes = device.empty((1, 3, 14, 21), np.float32)
    network_planes(device, nv12, "nv12", planes, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert np.abs(device.download(planes)).max() <= 1.0001
    nv12.close()
    planes.close()


def main() -> None:
    folder, order = Path(sys.argv[1]), sys.argv[2]
    with opened(folder, order) as device:
        decompose(device)
        scan(device, np.random.default_rng(1))
        encode(device, np.random.default_rng(2))
        pool(device, np.random.default_rng(3))
        preprocess(device, np.random.default_rng(4))
    print("all families ran")


if __name__ == "__main__":
    main()
