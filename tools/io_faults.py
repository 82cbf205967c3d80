"""A full disk at every write, I/O errors at random calls, a stick pulled at random: right exit codes, a sound gallery?

    python tools/io_faults.py [--full-disk all] [--errors 300] [--pulled 100] [--seed 0] [--out FILE]

Each round makes some call of a real command fail (see file_faults.c; the networks are a stand-in), expects the command
to end with exit code 9 or, where it could do without that call, 0 and everything done, checks the gallery against what
was reported, then runs the same command again without the fault to its end and checks again. For the full disk that is
done for every single write of small enrolments, a removal, a merge, a code-book change, a compaction and a repair, once
with only that write failing and once with all after it. Exit code 1 where anything was found.
"""

from __future__ import annotations

import argparse
import errno
import os
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
import results_file
from cut_operations import OPERATIONS
from cut_world import Found, State, Step, World, check
from lost_writes import files_of, put_files

from edge_claid.errors import GalleryError, SourceError, StorageError

STORAGE = StorageError.exit_code
PULLED = (0, SourceError.exit_code, STORAGE)  # 0: what was gone is rejected with its reason


@dataclass(frozen=True)
class Fault:
    """The nth call of these kinds below a folder fails with this error, and with lasting all that follow."""

    folder: Path
    kinds: int
    nth: int
    error: int
    lasting: bool


@dataclass
class Trial:
    """A command to be run from the same start again and again."""

    world: World
    step: Step
    before: State
    start: dict[str, bytes]
    layer: Any

    @classmethod
    def of(cls, world: World, name: str, layer: Any) -> Trial:
        step = OPERATIONS[name](world)
        return cls(world, step, world.state(), files_of(world.medium), layer)

    def calls(self, folder: Path, kinds: int) -> int:
        """How many calls of these kinds the command makes when nothing fails."""
        put_files(self.world.medium, self.start)

        def counted() -> None:
            self.layer.faults_arm(os.fsencode(folder), kinds, 0, 0, 0)
            try:
                self.step.work()
            finally:
                print(self.layer.faults_seen(), file=sys.stderr)

        ended = forked.run(counted)
        assert ended.code in self.step.codes, ended.error
        return int(ended.error.split()[-1])

    def round(self, fault: Fault, counts: Counter[str]) -> Found:
        """One fault, and the same command again without it."""
        put_files(self.world.medium, self.start)

        def faulty() -> None:
            where = os.fsencode(fault.folder)
            self.layer.faults_arm(where, fault.kinds, fault.nth, fault.error, fault.lasting)
            self.step.work()

        ended = forked.run(faulty)
        counts[f"exit {ended.code}"] += 1
        found = Found()
        allowed = (*self.step.codes, STORAGE) if fault.folder == self.world.medium else PULLED
        if fault.kinds & file_faults.READ and not fault.lasting and fault.folder == self.world.medium:
            # One read that fails and the next does not: that SQLite's "malformed" was an I/O error cannot be told.
            allowed = (*allowed, GalleryError.exit_code)
        if ended.code not in allowed:
            found.add("hung" if ended.code is None else "wrong exit code", 1, f"{ended.code}: {ended.error[-300:]}")
        elif ended.code and not ended.error.strip():
            found.add("no message", 1, "")
        done = ended.code == 0 and fault.folder == self.world.medium
        found.take(check(self.world, self.before, self.step, ended.out, done))
        again = forked.run(self.step.work)
        if again.code not in self.step.codes:
            found.add("does not go on", 1, f"exit code {again.code}: {again.error[-300:]}")
        found.take(check(self.world, self.before, self.step, ended.out + again.out, done=True))
        return found


def full_disk(world: World, layer: Any, every: int, note: Callable[[str, Found], None]) -> dict[str, Any]:
    """No space at each write (at each ``every``-th write) of each operation."""
    counts: Counter[str] = Counter()
    writes = {}
    for name in ("enrol", "enrol", "remove", "merge", "code-book change", "compact", "repair"):
        trial = Trial.of(world, name, layer)
        total = trial.calls(world.medium, file_faults.WRITE)
        end = files_of(world.medium)
        writes[name] = writes.get(name, 0) + total
        for nth in range(1, total + 1, every):
            for lasting in (False, True):
                fault = Fault(world.medium, file_faults.WRITE, nth, errno.ENOSPC, lasting)
                note(
                    f"full disk, {name}, write {nth} of {total}",
                    trial.round(fault, counts),
                )
                counts["rounds"] += 1
        put_files(world.medium, end)
    return {"writes": writes, **counts}


def errors(world: World, layer: Any, rounds: int, note: Callable[[str, Found], None]) -> dict[str, Any]:
    """I/O errors at random calls on the gallery's files."""
    counts: Counter[str] = Counter()
    rng = world.rng
    choices = (file_faults.WRITE, file_faults.SYNC, file_faults.READ, file_faults.OPEN, 15)
    names = list(OPERATIONS)
    while counts["rounds"] < rounds:
        name = "enrol" if not counts["rounds"] else names[int(rng.integers(len(names)))]
        trial = Trial.of(world, name, layer)
        kinds = int(rng.choice(choices))
        total = trial.calls(world.medium, kinds)
        end = files_of(world.medium)
        # A command that has nothing to do makes no such call.
        for _ in range(min(8, rounds - counts["rounds"]) if total else 0):
            nth, lasting = int(rng.integers(1, total + 1)), bool(rng.random() < 0.5)
            fault = Fault(world.medium, kinds, nth, errno.EIO, lasting)
            note(
                f"I/O error, {name}, kinds {kinds}, call {nth} of {total}",
                trial.round(fault, counts),
            )
            counts["rounds"] += 1
        put_files(world.medium, end)
    return dict(counts)


def pulled(world: World, layer: Any, rounds: int, note: Callable[[str, Found], None]) -> dict[str, Any]:
    """The pictures' stick goes: every call on it fails from some moment on, or its files vanish."""
    counts: Counter[str] = Counter()
    rng = world.rng
    kinds = file_faults.READ | file_faults.OPEN
    while counts["rounds"] < rounds:
        trial = Trial.of(world, "enrol", layer)
        total = trial.calls(world.photos, kinds)
        end = files_of(world.medium)
        for _ in range(min(8, rounds - counts["rounds"])):
            if total and rng.random() < 0.5:
                lasting = bool(rng.random() < 0.8)
                fault = Fault(world.photos, kinds, int(rng.integers(1, total + 1)), errno.EIO, lasting)
                note(f"pulled, I/O errors from call {fault.nth}", trial.round(fault, counts))
            else:
                delay = float(rng.uniform(0, 0.4))
                note(f"pulled, files vanish after {delay:.3f} s", _vanish(trial, delay, counts))
            counts["rounds"] += 1
        put_files(world.medium, end)
    return dict(counts)


def _vanish(trial: Trial, delay: float, counts: Counter[str]) -> Found:
    world, away = trial.world, trial.world.photos.with_name("away")
    put_files(world.medium, trial.start)

    def with_pulling() -> None:
        if os.fork() == 0:
            time.sleep(delay)
            # What a mount point shows when its stick is gone: an empty folder.
            os.rename(world.photos, away)
            os.mkdir(world.photos)
            os._exit(0)
        try:
            trial.step.work()
        finally:
            os.wait()

    ended = forked.run(with_pulling)
    os.rmdir(world.photos)
    os.rename(away, world.photos)
    counts[f"exit {ended.code}"] += 1
    found = Found()
    if ended.code not in PULLED:
        found.add("hung" if ended.code is None else "wrong exit code", 1, f"{ended.code}: {ended.error[-300:]}")
    found.take(check(world, trial.before, trial.step, ended.out, done=False))
    again = forked.run(trial.step.work)
    if again.code != 0:
        found.add("does not go on", 1, f"exit code {again.code}: {again.error[-300:]}")
    found.take(check(world, trial.before, trial.step, ended.out + again.out, done=True))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full-disk", default="all", help="all: every write; N: every N-th; none")
    parser.add_argument("--errors", type=int, default=300)
    parser.add_argument("--pulled", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=results_file.FOLDER / "io_faults.json")
    arguments = parser.parse_args()
    layer = file_faults.load()
    figures: dict[str, Any] = {}

    def measured(part: str, work: Callable[[Callable[[str, Found], None]], dict[str, Any]]) -> None:
        found, began, rounds = Found(), time.monotonic(), [0]

        def note(what: str, of_round: Found) -> None:
            found.take(of_round)
            rounds[0] += 1
            if rounds[0] % 100 == 0:
                print(f"{part}: {rounds[0]} rounds, findings: {dict(found.counts) or 'none'}", flush=True)
            for words in of_round.words:
                print(f"{what}: {words}", flush=True)

        counted = work(note)
        spent = round(time.monotonic() - began, 1)
        figures[part] = {**counted, "found": dict(found.counts), "findings": found.words[:20], "seconds": spent}
        # At once: who ends the next part early keeps this one.
        results_file.write(arguments.out, {part: {**figures[part], "seed": arguments.seed}})
        print(part, {name: value for name, value in figures[part].items() if name != "findings"}, flush=True)

    with tempfile.TemporaryDirectory() as place:
        worlds = [World(Path(place, name), arguments.seed, most=14) for name in ("full", "errors", "pulled")]
        if arguments.full_disk != "none":
            every = 1 if arguments.full_disk == "all" else int(arguments.full_disk)
            measured("full_disk", lambda note: full_disk(worlds[0], layer, every, note))
        if arguments.errors:
            measured("io_errors", lambda note: errors(worlds[1], layer, arguments.errors, note))
        if arguments.pulled:
            measured("stick_pulled", lambda note: pulled(worlds[2], layer, arguments.pulled, note))
    return any(of_part["findings"] for of_part in figures.values())


if __name__ == "__main__":
    sys.exit(main())
