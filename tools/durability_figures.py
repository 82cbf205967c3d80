"""Writes the figures of docs/durability.md from the files in benchmarks/results/, between its two markers.

python tools/durability_figures.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import results_file

PAGE = Path(__file__).resolve().parent.parent / "docs" / "durability.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"


def read(name: str) -> dict[str, Any]:
    """A results file, empty where it was never made."""
    path = results_file.FOLDER / name
    return json.loads(path.read_text()) if path.is_file() else {}


def cuts() -> list[str]:
    """Both kinds of power cuts."""
    rows = []
    parts = read("power_cut.json")
    kinds = {
        "kill": "kill -9",
        "kill_exfat": "kill -9, on exFAT (exfat-fuse)",
        "kill_vfat": "kill -9, on vfat (user-mode Linux)",
        "lost_writes": "unsynced writes lost",
    }
    for part, what in kinds.items():
        if part in parts:
            figures = parts[part]
            operations = ", ".join(f"{count} {name}" for name, count in figures["rounds_by_operation"].items())
            values = (figures[kind] for kind in ("rounds", "lost", "doubled", "unreadable", "failed", "hung"))
            rows.append(f"| {what} | {' | '.join(map(str, values))} | {operations} |")
    if not rows:
        return []
    head = "| cut | rounds | lost | doubled | unreadable | failed | hung | rounds of |"
    return ["`benchmarks/results/power_cut.json`:", "", head, "| --- |" + " --- |" * 7, *rows, ""]


def faults() -> list[str]:
    rows = []
    names = {
        "full_disk": "no space at a write",
        "io_errors": "I/O error at a call on the gallery",
        "stick_pulled": "stick pulled",
    }
    parts = read("io_faults.json")
    for part, what in names.items():
        if part in parts:
            figures = parts[part]
            codes = ", ".join(f"{v} × {k}" for k, v in sorted(figures.items()) if k.startswith("exit"))
            rows.append(f"| {what} | {figures['rounds']} | {codes} | {sum(figures['found'].values())} |")
    if not rows:
        return []
    head = ["| fault | rounds | the command ended with | findings |", "| --- | --- | --- | --- |"]
    return ["`benchmarks/results/io_faults.json`:", "", *head, *rows, ""]


def fuzzed() -> list[str]:
    rows = []
    for kind, figures in read("fuzz.json").items():
        outcomes = ", ".join(f"{count} {name}" for name, count in figures["outcomes"].items())
        rows.append(f"| {kind} | {figures['cases']} | {outcomes} | {figures['found']} |")
    head = ["| fuzzed | cases | outcomes | crashes, hangs, errors not ours |", "| --- | --- | --- | --- |"]
    return ["`benchmarks/results/fuzz.json`:", "", *head, *rows, ""] if rows else []


def growth() -> list[str]:
    result = read("gallery.json").get("growth")
    if result is None:
        return []
    columns = {
        "open_s": "opened for search, s",
        "add_ms": "one image added, ms",
        "list_page_ms": "first 1,000 listed, ms",
        "remove_ms": "one removed, ms",
    }
    lines = [
        f"`benchmarks/results/gallery.json` ({result['regions_an_image']} regions an image, codes of 16 bytes, each"
        " change committed and synced by itself):",
        "",
        "| images | MB | " + " | ".join(columns.values()) + " |",
        "| --- | --- |" + " --- |" * len(columns),
    ]
    for images, figures in result["by_images"].items():
        values = " | ".join(f"{figures[name]:.3g}" for name in columns)
        lines.append(f"| {int(images):,} | {figures['bytes'] / 1e6:.0f} | {values} |")
    return [*lines, ""]


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    lines = [*cuts(), *faults(), *fuzzed(), *growth()]
    PAGE.write_text(f"{head}{BEGIN}\n" + "\n".join(lines) + f"{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
