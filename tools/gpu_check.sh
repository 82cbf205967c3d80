#!/usr/bin/env bash
# Everything that needs a GPU, with one command on a bare machine: CUDA (nvcc, compute-sanitizer), Python 3.12 with
# numpy, torch, nanobind, cmake, ninja and pytest, and no network.
#
#   tools/gpu_check.sh FOLDER [RESULTS]
#
# What is missing costs its own figures only: without CMake or a compiler the comparisons with the CPU, without
# compute-sanitizer its two steps, without torch the peer and the frames. PyCUDA and a GPU are needed for all.
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
# The wheels of PyCUDA are for Python 3.12; the Python that has torch may be another one beside it.
fits() { "$1" -c 'import sys, numpy; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null; }
python=$(command -v python3 || true)
for other in python3 python3.12 /opt/*/bin/python3 /opt/*/.venv/bin/python3; do
    fits "$python" && break
    other=$(command -v "$other") && fits "$other" && python=$other
done
fits "$python" || echo "no Python 3.12 with NumPy is here: the wheels of PyCUDA may not fit" >&2
# Programs that came with it, as cmake and ninja do.
export PATH="$(dirname "$python"):$("$python" -c 'import sysconfig; print(sysconfig.get_path("scripts"))'):$PATH"
export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}/usr/local/nvidia/lib64:/usr/local/nvidia/lib"
for tool in cmake ninja nvcc compute-sanitizer; do
    command -v "$tool" >/dev/null || echo "there is no $tool on PATH: what needs it will fail" >&2
done
for module in nanobind pytest torch; do
    "$python" -c "import importlib.util, sys; sys.exit(not importlib.util.find_spec('$module'))" ||
        echo "$python has no $module: what needs it will fail" >&2
done

failed=()
step() {  # NAME SECONDS LOG COMMAND...
    local name=$1 limit=$2 log=$3 left=$((all_of_it - SECONDS))
    shift 3
    ((limit < left)) || limit=$((left > 1 ? left : 1))
    printf '\n== %s (%ss, at most %ss)\n' "$name" "$SECONDS" "$limit" | tee -a "$log"
    local code=0
    timeout --kill-after=5 "$limit" "$@" 2>&1 | tee -a "$log" || code=$?
    ((code == 0)) && return
    ((code == 124 || code == 137)) && name+=" (out of time)"
    echo "== failed: $name" | tee -a "$log"
    failed+=("$name")
}
build() {
    local generator=Ninja
    command -v ninja >/dev/null || generator="Unix Makefiles"
    cmake -S . -B "$1/build" -G "$generator" -DPython_EXECUTABLE="$python" \
        -Dnanobind_DIR="$("$python" -m nanobind --cmake_dir)" && cmake --build "$1/build" --parallel | tail -20 &&
        find "$1/build" -name '_*.so' -exec mv {} edge_claid/ops/cpu/ \;
}
export -f build
export python
rm -f "$results"/cuda_{machine,build,tests,memcheck,racecheck,bench}.log

{ uname -a; "$python" -VV; nvcc --version | tail -2; nvidia-smi; true; } >"$results/cuda_machine.log" 2>&1 || true
"$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$work/site" \
    "$data"/wheels/*.whl || for wheel in "$data"/wheels/*.whl; do "$python" -m zipfile -e "$wheel" "$work/site"; done
export PYTHONPATH="$work/site:$PWD" EDGE_CLAID_TEST_DATA="$data" PYTHONUNBUFFERED=1
# Kernels that were compiled where FOLDER was made, known by their sources: nvcc is needed for the tests alone.
[[ -d $data/kernels ]] && cp -r "$data/kernels" "$work/"
# Without this every test would be skipped, and nothing would be wrong.
"$python" -c "
from edge_claid.ops.cuda.pycuda_device import PycudaDevice
with PycudaDevice() as device:
    print(device.name, device.arch, f'{device.free_bytes():,} bytes free')" 2>&1 | tee -a "$results/cuda_machine.log"
step "the CPU's ops" 120 "$results/cuda_build.log" bash -c 'set -o pipefail; build "$1"' build "$work"

# The figures first: they are what a machine is lent for, and hold their own comparisons with the CPU.
step "benchmarks" 150 "$results/cuda_bench.log" \
    "$python" tools/bench_cuda.py "$data/tokens.npz" --cache "$work" --out "$results/cuda.json"
# A process each: what one kernel leaves broken is not the next one's.
for tests in tests/ops/test_cuda_{encode,pool,decomposition,scan,preprocess,recording}.py; do
    step "$tests on the GPU" 60 "$results/cuda_tests.log" "$python" -m pytest -q -p no:cacheprovider -m gpu "$tests"
done
for tool in memcheck racecheck; do
    step "compute-sanitizer $tool" 75 "$results/cuda_$tool.log" \
        env PYTHONPATH="$PYTHONPATH:tests/ops:tests/ops/cuda_model" compute-sanitizer --tool "$tool" --error-exitcode 1 \
        "$python" tests/ops/cuda_model/every_family.py "$work" gpu
done
printf '\n== done (%ss)\n' "$SECONDS"
if ((${#failed[@]})); then
    printf 'failed: %s\n' "${failed[@]}" >&2
    exit 1
fi
