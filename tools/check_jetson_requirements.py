"""Whether everything that Dockerfile.jetson installs is to be had for the boards.

    python tools/check_jetson_requirements.py [--install FOLDER]

Asks the package index of this machine's pip for the arm64 wheel of every pinned package, for Python 3.10 and 3.12; the
boards' glibc is 2.35 and 2.39. With --install a virtual environment is made for each of the two that is found here and
the same requirements, but PyCUDA, are installed into it, with all that they ask for.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements-jetson.txt"
# Python: newest glibc of its board's Ubuntu.
BOARDS = {"3.10": 35, "3.12": 39}
SOURCE_ONLY = ("pycuda",)


def pinned(python: str) -> list[str]:
    """The requirements that hold for this Python, without those that come as source only."""
    lines = [line.partition("#")[0].strip() for line in REQUIREMENTS.read_text().splitlines()]
    wanted = []
    for line in filter(None, lines):
        name, _, marker = (part.strip() for part in line.partition(";"))
        if not name.startswith(SOURCE_ONLY) and (not marker or python == "3.10"):
            wanted.append(name)
    return wanted


def missing_wheels(python: str) -> list[str]:
    """Packages that have no arm64 wheel for this Python on this glibc."""
    platforms = [f"manylinux_2_{minor}_aarch64" for minor in range(17, BOARDS[python] + 1)] + ["manylinux2014_aarch64"]
    missing = []
    for name in pinned(python):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            command += ["--python-version", python, "--implementation", "cp", "--dest", folder]
            for platform in platforms:
                command += ["--platform", platform]
            if subprocess.run([*command, name], capture_output=True, check=False).returncode:
                missing.append(name)
    return missing


def install(python: str, folder: Path) -> str:
    """Make an environment and install into it; what went wrong, or nothing."""
    program = shutil.which(f"python{python}")
    if program is None:
        return f"no python{python} here"
    place = folder / f"python{python}"
    try:
        subprocess.run([program, "-m", "venv", str(place)], check=True, capture_output=True, text=True)
        arguments = ["-m", "pip", "install", "--quiet", "--only-binary=:all:", *pinned(python)]
        subprocess.run([str(place / "bin" / "python"), *arguments], check=True, capture_output=True, text=True)
        imports = "import numpy, onnx, onnxruntime, cv2, typer, rich, av, fastapi, uvicorn"
        subprocess.run([str(place / "bin" / "python"), "-c", imports], check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        return (error.stderr.strip().splitlines() or ["no message"])[-1]
    return ""


def main() -> None:
    """Check, tell, and fail where something is not to be had."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--install", type=Path, metavar="FOLDER")
    chosen = parser.parse_args()
    failed = False
    for python in BOARDS:
        missing = missing_wheels(python)
        failed |= bool(missing)
        print(f"Python {python}, arm64: {'no wheel of ' + ', '.join(missing) if missing else 'every wheel is there'}")
        if chosen.install:
            wrong = install(python, chosen.install)
            failed |= bool(wrong)
            print(f"Python {python}, installed here: {wrong or 'all, and imported'}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
