"""Kernels as machine code: shipped beside the sources, found in a cache, or made by nvcc.

``python -m edge_claid.ops.cuda.compile --arch sm_87`` writes them beside the sources, for an image that has no nvcc.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edge_claid.errors import MachineError

SOURCES = Path(__file__).parent
FAMILIES = ("decomposition", "encode", "pool", "preprocess", "scan")
ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_87", "sm_89", "sm_90", "sm_110", "sm_120")
# Contraction would round a product and a sum as one; the CPU does not.
FLAGS = ("-std=c++17", "-O3", "--fmad=false", "-fatbin")


def machine_code(family: str, arch: str, cache_dir: Path | None = None) -> bytes:
    """The kernels of a family for one architecture ("sm_90").

    cache_dir: where what nvcc made is kept; None keeps nothing. Raises MachineError where the kernels are neither
    shipped for this architecture nor can be compiled.
    """
    shipped = SOURCES / family / f"{family}.{arch}.fatbin"
    if shipped.is_file():
        return shipped.read_bytes()
    if cache_dir is None:
        with tempfile.TemporaryDirectory() as folder:
            return compiled(family, [arch], Path(folder) / "kernels").read_bytes()
    kept = cache_dir / "kernels" / f"{family}-{arch}-{source_hash(family)}.fatbin"
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        compiled(family, [arch], kept)
    return kept.read_bytes()


def source_hash(family: str) -> str:
    """Changes with any source of the family and with the flags."""
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for path in [SOURCES / "kernel.h", *sorted((SOURCES / family).glob("*.[ch]*"))]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def compiled(family: str, architectures: Sequence[str], target: Path) -> Path:
    """Compile a family with nvcc into one file that appears whole or not at all. Raises MachineError."""
    nvcc = found_nvcc()
    if nvcc is None:
        raise MachineError(
            f"the {family} kernels are not built for {', '.join(architectures)} and there is no nvcc to build them: "
            "install the CUDA toolkit, or put nvcc on PATH"
        )
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    command = [nvcc, *FLAGS, *code_options(architectures), str(SOURCES / family / f"{family}.cu"), "-o", str(partial)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        partial.unlink(missing_ok=True)
        last = (ran.stderr.strip() or ran.stdout.strip()).splitlines()[-1:] or ["no message"]
        raise MachineError(f"nvcc could not build the {family} kernels: {last[0]}")
    os.replace(partial, target)
    return target


def found_nvcc() -> str | None:
    """nvcc of PATH, of CUDA_HOME or of the usual place, or None."""
    usual = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin" / "nvcc"
    return shutil.which("nvcc") or (str(usual) if usual.exists() else None)


def compiles_for(nvcc: str, arch: str) -> bool:
    """Whether this nvcc makes machine code of an architecture ("sm_90"): an old one knows no new GPU, a new no old one.

    One that does not say (before CUDA 11.5) is held to know it; one that cannot be run knows none.
    """
    try:
        asked = subprocess.run([nvcc, "--list-gpu-code"], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return bool(asked.returncode) or arch in asked.stdout.split()


def code_options(architectures: Sequence[str]) -> list[str]:
    """nvcc's options for machine code of these architectures ("sm_90")."""
    return [f"-gencode=arch=compute_{arch[3:]},code={arch}" for arch in architectures]


def main() -> None:
    """Compile every family beside its sources."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--arch", action="append", choices=ARCHITECTURES, required=True)
    for arch in parser.parse_args().arch:
        for family in FAMILIES:
            print(compiled(family, [arch], SOURCES / family / f"{family}.{arch}.fatbin"))


if __name__ == "__main__":
    main()
