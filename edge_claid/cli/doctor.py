"""``edge-claid doctor``: what of this machine works, and what to do where it does not."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edge_claid.cli.printing import print_json
from edge_claid.config import load_settings
from edge_claid.doctor.boards import BOARDS, Budget, budget_of
from edge_claid.doctor.check import OK, PROBLEM, WARNING, Check
from edge_claid.doctor.gpu import gpu_checks, is_jetson
from edge_claid.doctor.machine import machine_checks
from edge_claid.errors import MachineError, UsageError
from edge_claid.runners.cuda_driver import driver

_COLOURS = {OK: typer.colors.GREEN, WARNING: typer.colors.YELLOW, PROBLEM: typer.colors.RED}


def doctor(
    gallery: Annotated[
        list[Path] | None, typer.Option(metavar="NAME.claid", help="A gallery to read; again for more.")
    ] = None,
    board: Annotated[
        str | None, typer.Option(help=f"Instead: the memory budget of a board, of {', '.join(BOARDS)}.")
    ] = None,
    regions: Annotated[int, typer.Option(help="Of --board: regions of the gallery.")] = 1_000_000,
    precision: Annotated[str, typer.Option(help="Of --board: of the engines.")] = "fp16",
    json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout.")] = False,
) -> None:
    """Look at driver, TensorRT, cameras, cache and memory; exit code 3 where something does not work."""
    settings = load_settings()
    if board is not None:
        if board not in BOARDS:
            raise UsageError(f"no board is called {board!r}: choose {', '.join(BOARDS)}")
        if regions < 0:
            raise UsageError(f"--regions {regions} is no number of regions")
        _print_budget(budget_of(board, settings, regions, precision), json)
        return
    here = driver()
    checks = [*gpu_checks(here, settings), *machine_checks(settings, is_jetson(here), gallery or ())]
    for check in checks:
        if json:
            print_json(asdict(check))
        else:
            _print(check)
    problems = [check.name for check in checks if check.state == PROBLEM]
    if problems:
        raise MachineError(f"{len(problems)} of {len(checks)} checks found a problem: {', '.join(problems)}")


def _print(check: Check) -> None:
    state = f"{check.state:<8}"
    if sys.stdout.isatty():
        state = typer.style(state, fg=_COLOURS[check.state])
    typer.echo(f"{state} {check.name}: {check.told}")
    if check.fix:
        typer.echo(f"         -> {check.fix}")


def _print_budget(budget: Budget, json: bool) -> None:
    if json:
        print_json(asdict(budget) | {"left": budget.left})
        return
    typer.echo(f"{budget.board}: {budget.memory / 1e9:.1f} GB")
    for name, size in budget.parts.items():
        typer.echo(f"  {name:<48} {size / 1e6:>9,.0f} MB")
    typer.echo(f"  {'left':<48} {budget.left / 1e6:>9,.0f} MB")
    if budget.left < 0:
        typer.echo("  does not fit: take a smaller gallery, or shorter codes", err=True)
