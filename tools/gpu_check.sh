#!/usr/bin/env bash
# Everything that needs a GPU, with one command on a bare machine: CUDA (nvcc, compute-sanitizer), Python 3.12 with
# numpy, torch, nanobind, cmake, ninja and pytest, and no network.
#
#   tools/gpu_check.sh FOLDER [RESULTS]
#
# FOLDER comes from `python tools/gpu_check_data.py FOLDER` on a machine with the test data: wheels of PyCUDA, golden
# tokens and tokens of pictures. RESULTS (default benchmarks/results) takes cuda.json and the log of each step.
set -euo pipefail
cd "$(dirname "$0")/.."
data=$(realpath "$1")
results=${2:-benchmarks/results}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$results"

step() { printf '\n== %s (%ss)\n' "$1" "$SECONDS"; }

step "PyCUDA and the CPU's ops"
python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$work/site" "$data"/wheels/*.whl
export PYTHONPATH="$work/site:$PWD" EDGE_CLAID_TEST_DATA="$data"
cmake -S . -B "$work/build" -G Ninja -DPython_EXECUTABLE="$(command -v python3)" \
    -Dnanobind_DIR="$(python3 -m nanobind --cmake_dir)" >"$work/cmake.log" || { cat "$work/cmake.log"; exit 1; }
cmake --build "$work/build" >"$work/build.log" || { cat "$work/build.log"; exit 1; }
find "$work/build" -name '_*.so' -exec mv {} edge_claid/ops/cpu/ \;

step "the kernels' tests on the GPU"
python3 -m pytest -q -p no:cacheprovider -m gpu tests/ops/test_cuda_*.py | tee "$results/cuda_tests.log"

for tool in memcheck racecheck; do
    step "compute-sanitizer $tool"
    PYTHONPATH="$PYTHONPATH:tests/ops:tests/ops/cuda_model" compute-sanitizer --tool "$tool" --error-exitcode 1 \
        python3 tests/ops/cuda_model/every_family.py "$work" gpu | tee "$results/cuda_$tool.log"
done

step "benchmarks"
python3 tools/bench_cuda.py "$data/tokens.npz" --cache "$work" --out "$results/cuda.json"
step "done"
