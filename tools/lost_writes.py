"""Cut a gallery's power on a disk that loses what was not synced: is anything lost, doubled or unreadable after it?

    python tools/lost_writes.py --rounds 200 [--seed 0] [--out FILE]

Commands run under a layer that records every write, truncation, sync, removal and renaming of the gallery's files, and
every line reported on stdout between them. Each round replays such a record up to a random moment, makes one of the
states a disk may then be in (see write_log.py), checks the gallery against what had been reported by then, runs the
interrupted command again to its end and checks again. Exit code 1 where anything was found.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import file_faults
import forked
import numpy as np
import results_file
from cut_operations import OPERATIONS
from cut_world import Found, State, Step, World, check
from write_log import Disk, Record, read_log

from edge_claid.gallery.storage import connection

CUTS_A_RECORDING = 8


@dataclass(frozen=True)
class Recording:
    """One command that ran to its end. start: the gallery's files before it. before: what the gallery held."""

    step: Step
    before: State
    start: dict[str, bytes]
    records: list[Record]


def record(world: World, name: str, layer: Any, log: Path) -> Recording:
    """Run an operation to its end under the recording layer."""
    step = OPERATIONS[name](world)
    before, start = world.state(), files_of(world.medium)

    def recorded() -> None:
        layer.faults_record(os.fsencode(world.medium), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
        step.work()

    ended = forked.run(recorded)
    assert ended.code in step.codes, ended.error
    found = check(world, before, step, ended.out, done=True)
    assert not found.words, found.words
    return Recording(step, before, start, read_log(log))


def cut_round(world: World, recording: Recording, rng: np.random.Generator, counts: Counter[str]) -> Found:
    """One cut of the recorded command, in place of the files that are there."""
    disk, moment = Disk(world.medium, recording.start), _moment(recording.records, rng)
    for done in recording.records[:moment]:
        disk.replay(done)
    counts["cuts with unsynced changes"] += disk.at_risk
    put_files(world.medium, disk.after_cut(rng))
    said = b"".join(r.body for r in recording.records[:moment] if r.kind == "X").decode()
    lines = said[: said.rfind("\n") + 1].splitlines()
    found = check(world, recording.before, recording.step, lines, done=False)
    ended = forked.run(recording.step.work)
    if ended.code not in recording.step.codes:
        found.add("hung" if ended.code is None else "failed", 1, f"exit code {ended.code}: {ended.error[-300:]}")
    found.take(check(world, recording.before, recording.step, lines + ended.out, done=True))
    return found


def _moment(records: list[Record], rng: np.random.Generator) -> int:
    """Half of the cuts at any call, half right around a sync or a report."""
    if rng.random() < 0.5:
        return int(rng.integers(len(records) + 1))
    telling = [i for i, r in enumerate(records) if r.kind in "SXDRLT"]
    return min(len(records), int(rng.choice(telling)) + int(rng.integers(2)))


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.iterdir()}


def put_files(folder: Path, files: dict[str, bytes]) -> None:
    """These files and no others."""
    shutil.rmtree(folder)
    folder.mkdir()
    for path, content in files.items():
        Path(path).write_bytes(content)


def without_sync() -> None:
    """From now on galleries are written as if every write were safe at once."""
    durable = connection._make_durable

    def careless(opened: connection.Connection, path: str) -> None:
        durable(opened, path)
        opened.execute("PRAGMA synchronous = OFF")

    connection._make_durable = careless


def run(place: Path, rounds: int, seed: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """So many rounds in a folder; the figures."""
    layer = file_faults.load()
    world, rng = World(place, seed, most=40), np.random.default_rng([seed, 1])
    counts: Counter[str] = Counter()
    found, done, began = Found(), 0, time.monotonic()
    order = ["enrol", "enrol", *(name for name in OPERATIONS if name != "enrol")]
    while done < rounds:
        name = order[counts["recordings"] % len(order)]
        recording = record(world, name, layer, place / "log")
        end = files_of(world.medium)
        counts["recordings"] += 1
        for _ in range(min(CUTS_A_RECORDING, rounds - done)):
            of_round = cut_round(world, recording, rng, counts)
            found.take(of_round)
            counts[f"rounds of {name}"] += 1
            done += 1
            for words in of_round.words:
                tell(f"round {done} ({name}): {words}")
        put_files(world.medium, end)
        tell(f"{done} rounds, findings: {dict(found.counts) or 'none'}")
    return {
        "rounds": rounds,
        "recordings": counts["recordings"],
        "cuts_with_unsynced_changes": counts["cuts with unsynced changes"],
        "rounds_by_operation": {name: counts[f"rounds of {name}"] for name in OPERATIONS},
        **found.figures(),
        "seed": seed,
        "seconds": round(time.monotonic() - began, 1),
        "findings": found.words[:20],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without-sync", action="store_true", help="check of the check: this has to find losses")
    parser.add_argument("--out", type=Path, default=results_file.FOLDER / "power_cut.json")
    arguments = parser.parse_args()
    if arguments.without_sync:
        without_sync()
    with tempfile.TemporaryDirectory() as place:
        figures = run(Path(place), arguments.rounds, arguments.seed, lambda text: print(text, flush=True))
    results_file.write(arguments.out, {"lost_writes": figures})
    print({name: value for name, value in figures.items() if name != "findings"})
    return bool(figures["findings"])


if __name__ == "__main__":
    sys.exit(main())
