"""Power cuts on vfat where the kernel has none: ``power_cut.py`` in a user-mode Linux, on the disk image of a stick.

    apt install user-mode-linux dosfstools
    python tools/power_cut_vfat.py --rounds 90 [--seed 0] [--operations enrol,remove] [--out FILE]

The guest sees the files of this machine, read-only, and beside them a stick of 256 MB with vfat, on which gallery and
pictures lie. Every call to the system is traced there, so a round takes some seconds. When the guest has unmounted the
stick, fsck.vfat looks at its image. Exit code 1 where anything was found.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import results_file
from cut_operations import OPERATIONS

ROOT = Path(__file__).resolve().parent.parent
PART = "kill_vfat"
STICK_BYTES = 256 * 2**20
MODULES = "/usr/lib/uml/modules/$(uname -r)/kernel/fs"
INIT = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin PYTHONPATH={root} TMPDIR=/mnt/tmp HOME=/mnt/tmp EDGE_CLAID_OFFLINE=1
mount -t proc none /proc && mount -t sysfs none /sys && mount -t tmpfs none /mnt || echo "no mounts"
mkdir /mnt/stick /mnt/tmp /mnt/told
mount -t hostfs -o {told} none /mnt/told
for module in fat/fat fat/vfat nls/nls_cp437 nls/nls_utf8; do insmod {modules}/$module.ko; done
mount -t vfat -o codepage=437,iocharset=utf8 /dev/ubda /mnt/stick || echo "no stick"
cd {root}
{command}
echo $? > /mnt/told/code
cd / && umount /mnt/stick
{python} -c 'import ctypes; ctypes.CDLL(None).reboot(0x4321FEDC)'
"""


def require_programs() -> None:
    lacking = [name for name in ("linux", "mkfs.vfat", "fsck.vfat") if shutil.which(name, path=_path()) is None]
    if lacking:
        sys.exit(f"{', '.join(lacking)}: not here; apt install user-mode-linux dosfstools")


def in_guest(place: Path, rounds: int, seed: int, operations: str) -> dict[str, Any]:
    """The figures of a run inside the guest, and of the stick's file system after it."""
    stick, told, init = place / "stick", place / "told", place / "init"
    told.mkdir()
    with open(stick, "wb") as file:
        file.truncate(STICK_BYTES)
    subprocess.run(["mkfs.vfat", "-F", "32", str(stick)], check=True, stdout=subprocess.DEVNULL, env=_environment())
    tool = str(ROOT / "tools" / "power_cut.py")
    asked = ["--rounds", str(rounds), "--seed", str(seed), "--operations", operations, "--part", PART]
    command = [sys.executable, tool, *asked, "--folder", "/mnt/stick", "--out", "/mnt/told/result.json"]
    script = INIT.format(
        root=shlex.quote(str(ROOT)),
        told=shlex.quote(str(told)),
        modules=MODULES,
        command=shlex.join(command),
        python=shlex.quote(sys.executable),
    )
    init.write_text(script)
    init.chmod(0o755)
    guest = ["linux", "mem=1500M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", f"ubda={stick}"]
    console = [f"init={init}", "con=null", "con0=null,fd:1", "quiet"]
    subprocess.run([*guest, *console], check=False, stdin=subprocess.DEVNULL, env=_environment())
    result = told / "result.json"
    if not result.exists():
        sys.exit("the guest came to no result; what it said is above")
    figures: dict[str, Any] = json.loads(result.read_text())[PART]
    checked = subprocess.run(["fsck.vfat", "-n", str(stick)], capture_output=True, text=True, env=_environment())
    figures["file_system_after_it"] = "sound" if checked.returncode == 0 else checked.stdout
    return figures


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": _path()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=90)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--operations", default=",".join(OPERATIONS), help="comma-separated: " + ", ".join(OPERATIONS))
    parser.add_argument("--out", type=Path, default=results_file.FOLDER / "power_cut.json")
    arguments = parser.parse_args()
    require_programs()
    with tempfile.TemporaryDirectory() as place:
        figures = in_guest(Path(place), arguments.rounds, arguments.seed, arguments.operations)
    results_file.write_as_told(arguments.out, {PART: figures})
    return bool(figures["findings"]) or figures["file_system_after_it"] != "sound"


if __name__ == "__main__":
    sys.exit(main())
