"""Writes the figures of README.md from the files in benchmarks/results/, between its two markers.

python tools/readme_figures.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
LABELS = {"whole": "whole image", "grid": "grid of 30 rectangles", "claid": "CLAID regions"}


def read(name: str) -> dict[str, Any] | None:
    """A results file, or None where it was never made."""
    path = RESULTS / name
    return json.loads(path.read_text()) if path.is_file() else None


def search_quality(results: dict[str, Any]) -> list[str]:
    """mAP and mIoU by kind of regions and code length."""
    lines = [
        "### Finding things",
        "",
        "`edge-claid eval ../shared/data/dev --regions whole --regions grid --regions claid --bytes 0 --bytes 32"
        " --bytes 16 --bytes 8 --out benchmarks/results/eval_dev.json` (725 pictures, 161 queries; the sources one by"
        " one are in that file):",
        "",
        "| regions | an image | code | mAP-50 | mAP-100 | mAP | recall@1 | mIoU |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in results["results"]:
        setting, figures = row["setting"], row["all"]
        code = f"{setting['bytes']} bytes" if setting["bytes"] else "float"
        values = (f"{figures[key]:.3f}" for key in ("mAP-50", "mAP-100", "mAP", "recall@1", "mIoU"))
        lines.append(
            f"| {LABELS[setting['regions']]} | {setting['regions_per_image']:.0f} | {code} | {' | '.join(values)} |"
        )
    return [*lines, ""]


# As it is run from the repository; the results file holds the command with the folder of that day.
RECALL_COMMAND = "python tools/region_recall.py ../shared/data/coco_dev"


def recall(results: dict[str, Any]) -> list[str]:
    """Region recall on boxes."""
    lines = ["### Regions against annotated boxes", "", f"`{RECALL_COMMAND}` (97 COCO pictures):", ""]
    thresholds = list(next(iter(results["methods"].values()))["recall"])
    lines += [
        "| regions | an image | " + " | ".join(f"IoU {t}" for t in thresholds) + " |",
        "| --- | --- |" + " --- |" * len(thresholds),
    ]
    for name, row in results["methods"].items():
        values = " | ".join(f"{row['recall'][t]:.3f}" for t in thresholds)
        lines.append(f"| {name} | {row['regions_per_image']:.1f} | {values} |")
    return [*lines, ""]


def speed() -> list[str]:
    """Enrolment, search, decomposition and scan in a line each."""
    lines = ["### Speed", "", "| what | figure | file |", "| --- | --- | --- |"]
    if enrol := read("enroll.json"):
        lines.append(
            f"| enrolment, {enrol['threads']} threads, peak memory | {enrol['images_per_second']:.1f} images/s,"
            f" {enrol['peak_mb']:.0f} MB; {enrol['ratio_to_networks']:.0%} of what the networks alone reach"
            " | `enroll.json` |"
        )
        stages = ", ".join(f"{name} {ms:.0f} ms" for name, ms in enrol["stage_ms"].items())
        lines.append(f"| where the time goes, one thread, a picture | {stages} | `enroll.json` |")
    if search := read("search.json"):
        lines.append(
            f"| search of {search['images']} images, {search['regions']} regions, without the networks"
            f" | {search['top_10_ms']:.1f} ms for 10 hits, {search['all_images_ms']:.0f} ms for all | `search.json` |"
        )
    if tree := read("decomposition.json"):
        lines.append(
            f"| tokens to regions, 32×32×384, one thread | {tree['ms']['32x32x384']:.2f} ms,"
            f" {tree['ratio_to_authors']['32x32x384']:.0f} times the authors' recorded time | `decomposition.json` |"
        )
    scans = read("scan.json") or {}
    for name in ("1e7x8 q1 avx512", "1e7x8 q16 avx512", "1e7x16 q1 avx512", "1e7x16 q16 avx512", "1e7x16 q1 avx2"):
        if scan := scans.get(name):
            lines.append(
                f"| exact scan of {scan['n']:,} codes of {scan['bytes']} bytes, {scan['queries']} at once, one thread,"
                f" {scan['isa']} | {scan['ms_per_query']:.2f} ms a query, {scan['ratio_to_faiss_pq']:.1f} times faiss"
                f" IndexPQ, {scan['ratio_to_faiss_fastscan']:.1f} times its (lossy) FastScan | `scan.json` |"
            )
    if opened := (read("open.json") or {}).get("10000000x16"):
        lines.append(
            f"| opening a gallery of {opened['regions']:,} regions of 16 bytes | {opened['warm_seconds']:.2f} s, from a"
            f" cold disk cache {opened['cold_seconds']:.1f} s; {opened['resident_bytes_per_region']:.1f} bytes a region"
            " | `open.json` |"
        )
    if grown := (read("gallery.json") or {}).get("growth"):
        largest = grown["by_images"]["100000"]
        lines.append(
            f"| one image added to 100,000, on the disk, beyond the networks | {largest['add_ms']:.1f} ms; removed"
            f" {largest['remove_ms']:.1f} ms | `gallery.json` |"
        )
    return [*lines, ""]


def main() -> None:
    readme = ROOT / "README.md"
    text = readme.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    lines = [
        "",
        "## Figures",
        "",
        "Measured on two cores of an AVX-512 server CPU; dates and versions in the files.",
        "",
    ]
    if found := read("eval_dev.json"):
        lines += search_quality(found)
    if found := read("region_recall.json"):
        lines += recall(found)
    lines += speed()
    readme.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{after}")


if __name__ == "__main__":
    main()
