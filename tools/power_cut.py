"""Cut a gallery's operations short with kill -9 at random moments: is anything lost, doubled or unreadable after it?

    python tools/power_cut.py --rounds 1000 [--seed 0] [--operations enrol,remove] [--out FILE]

Each round changes something, kills the command that follows it up, checks the gallery against what the command had
reported on stdout by then, runs the same command again to its end and checks again. The command line, the readers of
pictures, enrolment and the gallery are the real ones; only the networks are a stand-in. Exit code 1 where anything was
found.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before NumPy: a process with threads is not to be forked.
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import forked
import results_file
from cut_operations import OPERATIONS
from cut_world import Found, World, check


def cut_round(world: World, name: str, usual: dict[str, float], counts: Counter[str]) -> Found:
    """One round: prepare, cut (a third of the rounds twice), check, go on to the end, check."""
    step, before = OPERATIONS[name](world), world.state()
    lines: list[str] = []
    found = Found()
    for _ in range(1 + int(world.rng.random() < 0.33)):
        # Evenly over the time the operation takes, and somewhat beyond, as the last moments matter too.
        moment = world.rng.uniform(0, 1.1) * usual.get(name, 0.3)
        ended = forked.run(step.work, kill_after=moment)
        counts["cut" if ended.code == -9 else "too late to cut"] += 1
        lines += ended.out
        if ended.code not in (-9, *step.codes):
            found.add("failed", 1, f"exit code {ended.code}: {ended.error[-300:]}")
        found.take(check(world, before, step, lines, done=False))
        if ended.code == 0:
            break
    ended = forked.run(step.work)
    if ended.code not in step.codes:
        found.add("hung" if ended.code is None else "failed", 1, f"exit code {ended.code}: {ended.error[-300:]}")
    usual[name] = 0.8 * usual.get(name, ended.seconds) + 0.2 * ended.seconds
    found.take(check(world, before, step, lines + ended.out, done=True))
    return found


def run(place: Path, rounds: int, seed: int, operations: list[str], tell: Callable[[str], None]) -> dict[str, Any]:
    """So many rounds that were cut in a folder; the figures. One that ended before it was to be cut is no round."""
    world = World(place, seed)
    usual: dict[str, float] = {}
    counts: Counter[str] = Counter()
    found = Found()
    began = time.monotonic()
    done = 0
    while done < rounds:
        # An empty gallery has nothing to be removed. The longest operation is cut most often.
        often = operations + ["enrol"] * 2 * ("enrol" in operations)
        name = "enrol" if done == 0 else often[int(world.rng.integers(len(often)))]
        cuts = counts["cut"]
        of_round = cut_round(world, name, usual, counts)
        found.take(of_round)
        for words in of_round.words:
            tell(f"round {done} ({name}): {words}")
        if counts["cut"] == cuts:
            continue
        done += 1
        counts[f"rounds of {name}"] += 1
        if done % 50 == 0:
            tell(f"{done} rounds, {counts['cut']} cuts, findings: {dict(found.counts) or 'none'}")
    return {
        "rounds": rounds,
        "cuts": counts["cut"],
        "ended_before_the_cut": counts["too late to cut"],
        "rounds_by_operation": {name: counts[f"rounds of {name}"] for name in operations},
        **found.figures(),
        "seed": seed,
        "seconds": round(time.monotonic() - began, 1),
        "findings": found.words[:20],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--operations", default=",".join(OPERATIONS), help="comma-separated: " + ", ".join(OPERATIONS))
    parser.add_argument("--out", type=Path, default=results_file.FOLDER / "power_cut.json")
    parser.add_argument("--part", default="kill", help="of the results file: kill, kill_exfat")
    parser.add_argument("--folder", type=Path, help="where to work; the file system matters")
    arguments = parser.parse_args()
    operations = arguments.operations.split(",")
    if not set(operations) <= set(OPERATIONS):
        parser.error(f"operations are {', '.join(OPERATIONS)}")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        figures = run(Path(place), arguments.rounds, arguments.seed, operations, lambda text: print(text, flush=True))
    results_file.write(arguments.out, {arguments.part: figures})
    print({name: value for name, value in figures.items() if name != "findings"})
    return bool(figures["findings"])


if __name__ == "__main__":
    sys.exit(main())
