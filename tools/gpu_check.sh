#!/usr/bin/env bash
# Everything that needs a GPU, with one command on a bare machine: CUDA (nvcc, compute-sanitizer), Python 3.12 with
# numpy, torch, nanobind, cmake, ninja and pytest, and no network.
#
#   tools/gpu_check.sh FOLDER [RESULTS]
#
# FOLDER comes from `python tools/gpu_check_data.py FOLDER` on a machine with the test data: wheels of PyCUDA, golden
# tokens, tokens of pictures, one picture and both networks as torch alone runs them. RESULTS (default
# benchmarks/results) takes cuda.json and the log of each step. What a step takes is bounded, and so is all of it, to
# less than eight minutes; a step that fails, or whose tool is missing, does not keep the others from running.
set -euo pipefail
cd "$(dirname "$0")/.."
data=$(realpath "$1")
results=${2:-benchmarks/results}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$results"
results=$(realpath "$results")
all_of_it=460  # seconds

# nvcc and compute-sanitizer are often not on the path of a fresh machine, nor its driver on that of libraries.
cuda=${CUDA_HOME:-/usr/local/cuda}
export PATH="$PATH:$cuda/bin:$cuda/compute-sanitizer"
export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}/usr/local/nvidia/lib64:/usr/local/nvidia/lib"
for tool in python3 cmake ninja nvcc; do
    command -v "$tool" >/dev/null || { echo "there is no $tool on PATH" >&2; exit 3; }
done
for module in numpy nanobind pytest; do
    python3 -c "import $module" || { echo "python3 has no $module" >&2; exit 3; }
done

failed=()
step() {  # NAME SECONDS LOG COMMAND...
    local name=$1 limit=$2 log=$3 left=$((all_of_it - SECONDS))
    shift 3
    ((limit < left)) || limit=$((left > 1 ? left : 1))
    printf '\n== %s (%ss, at most %ss)\n' "$name" "$SECONDS" "$limit" | tee -a "$log"
    timeout --kill-after=5 "$limit" "$@" 2>&1 | tee -a "$log" || { echo "== failed: $name"; failed+=("$name"); }
}
build() {
    cmake -S . -B "$1/build" -G Ninja -DPython_EXECUTABLE="$(command -v python3)" \
        -Dnanobind_DIR="$(python3 -m nanobind --cmake_dir)" && cmake --build "$1/build" | tail -3 &&
        find "$1/build" -name '_*.so' -exec mv {} edge_claid/ops/cpu/ \;
}
export -f build
rm -f "$results"/cuda_{machine,build,tests,memcheck,racecheck,bench}.log

{ uname -a; python3 -VV; nvcc --version | tail -2; nvidia-smi || true; } >"$results/cuda_machine.log" 2>&1
python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$work/site" "$data"/wheels/*.whl
export PYTHONPATH="$work/site:$PWD" EDGE_CLAID_TEST_DATA="$data" PYTHONUNBUFFERED=1
# Without this every test would be skipped, and nothing would be wrong.
python3 -c "
from edge_claid.ops.cuda.pycuda_device import PycudaDevice
with PycudaDevice() as device:
    print(device.name, device.arch, f'{device.free_bytes():,} bytes free')" 2>&1 | tee -a "$results/cuda_machine.log"
step "the CPU's ops" 120 "$results/cuda_build.log" bash -c 'set -o pipefail; build "$1"' build "$work"

# A process each: what one kernel leaves broken is not the next one's.
for tests in tests/ops/test_cuda_{encode,pool,decomposition,scan,preprocess,recording}.py; do
    step "$tests on the GPU" 60 "$results/cuda_tests.log" python3 -m pytest -q -p no:cacheprovider -m gpu "$tests"
done
step "benchmarks" 150 "$results/cuda_bench.log" \
    python3 tools/bench_cuda.py "$data/tokens.npz" --cache "$work" --out "$results/cuda.json"
for tool in memcheck racecheck; do
    step "compute-sanitizer $tool" 75 "$results/cuda_$tool.log" \
        env PYTHONPATH="$PYTHONPATH:tests/ops:tests/ops/cuda_model" compute-sanitizer --tool "$tool" --error-exitcode 1 \
        python3 tests/ops/cuda_model/every_family.py "$work" gpu
done
printf '\n== done (%ss)\n' "$SECONDS"
if ((${#failed[@]})); then
    printf 'failed: %s\n' "${failed[@]}" >&2
    exit 1
fi
