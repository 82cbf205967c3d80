"""What edge-claid does, on the pictures beside this file: enrol them, look three things up, draw the answers."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUTPUT = HERE.parent / "demo-output"
GALLERY = OUTPUT / "samples.claid"
# A picture and the box around the thing in it: x0, y0, x1, y1 in pixels.
QUERIES = [
    ("db_backpack_dog_00.jpg", "192,128,480,512"),
    ("db_can_03.jpg", "345,140,493,410"),
    ("../query_juice.jpg", "61,0,144,198"),
]


def edge_claid(*arguments: str) -> None:
    """Run one verb as a user would."""
    print("\n$ edge-claid " + " ".join(arguments), flush=True)
    subprocess.run([sys.executable, "-m", "edge_claid", *arguments], check=True)


def main() -> None:
    start = time.perf_counter()
    OUTPUT.mkdir(exist_ok=True)
    edge_claid("models", "fetch")
    edge_claid("enroll", str(HERE / "pictures"), "--gallery", str(GALLERY))
    for picture, box in QUERIES:
        chosen = ["--box", box] if box else []
        query = str(HERE / "pictures" / picture)
        edge_claid("search", str(GALLERY), query, *chosen, "--top-k", "7", "--save", str(OUTPUT))
    print(f"\nDone in {time.perf_counter() - start:.0f} s. Look at the contact sheets:")
    for picture, _ in QUERIES:
        print(f"  {OUTPUT / (Path(picture).stem + '-sheet.jpg')}")


if __name__ == "__main__":
    main()
