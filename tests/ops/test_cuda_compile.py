"""The CUDA sources through nvcc for every architecture we serve, within budgets of registers and without spills."""

from __future__ import annotations

import re
import subprocess

import pytest

from edge_claid.errors import MachineError
from edge_claid.ops.cuda import compile as cuda_compile

# Registers a thread, of 64 Ki a multiprocessor: four blocks of 256 threads at 64, two at 128.
MOST_REGISTERS = {"gram_tiles": 128} | {f"scan_codes_{m}_{pack}": 128 for m in (16, 32) for pack in (1, 4)}
USUAL = 64


def report(family: str, tmp_path) -> list[tuple[str, str, int, int]]:
    """(kernel, architecture, registers, bytes spilled) as ptxas tells them."""
    nvcc = cuda_compile.found_nvcc()
    if nvcc is None:
        pytest.skip("no nvcc on this machine")
    source = cuda_compile.SOURCES / family / f"{family}.cu"
    options = [*cuda_compile.FLAGS, "-Xptxas", "-v", "-t", "2", "-Werror", "all-warnings"]
    command = [nvcc, *options, *cuda_compile.code_options(cuda_compile.ARCHITECTURES), str(source)]
    ran = subprocess.run([*command, "-o", str(tmp_path / "kernels")], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "kernels").stat().st_size > 0
    found = re.findall(
        r"Compiling entry function '(\w+)' for '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads.*?"
        r"Used (\d+) registers",
        ran.stderr,
        re.DOTALL,
    )
    return [(name, arch, int(used), int(stored) + int(loaded)) for name, arch, stored, loaded, used in found]


@pytest.mark.parametrize("family", cuda_compile.FAMILIES)
def test_every_architecture_within_the_budget(family, tmp_path):
    kernels = report(family, tmp_path)
    assert {arch for _, arch, _, _ in kernels} == set(cuda_compile.ARCHITECTURES)
    over = [row for row in kernels if row[2] > MOST_REGISTERS.get(row[0], USUAL) or row[3]]
    assert not over


def test_kernels_are_kept_and_made_again_when_a_source_changes(tmp_path, monkeypatch):
    if cuda_compile.found_nvcc() is None:
        pytest.skip("no nvcc on this machine")
    code = cuda_compile.machine_code("decomposition", "sm_87", tmp_path)
    (kept,) = (tmp_path / "kernels").iterdir()
    assert kept.read_bytes() == code
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CUDA_HOME", "/nowhere")
    assert cuda_compile.machine_code("decomposition", "sm_87", tmp_path) == code
    with pytest.raises(MachineError, match="no nvcc"):
        cuda_compile.machine_code("decomposition", "sm_86", tmp_path)


def test_a_source_that_does_not_compile_is_told(tmp_path, monkeypatch):
    if cuda_compile.found_nvcc() is None:
        pytest.skip("no nvcc on this machine")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "broken.cu").write_text("not C++")
    monkeypatch.setattr(cuda_compile, "SOURCES", tmp_path)
    with pytest.raises(MachineError, match="could not build the broken kernels"):
        cuda_compile.compiled("broken", ["sm_87"], tmp_path / "kernels")
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]
