"""``edge-claid engines``: list, verify and prune what build-engines built."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from edge_claid.cli.printing import print_json, shown
from edge_claid.config import load_settings
from edge_claid.engines import upkeep
from edge_claid.engines.opening import verify_on_gpu
from edge_claid.errors import EdgeClaidError, EngineError

app = typer.Typer(no_args_is_help=True, help="TensorRT engines of this machine: list, verify, prune.")

Json = Annotated[bool, typer.Option("--json", help="JSON lines on stdout.")]


@app.command("list")
def list_engines(json: Json = False) -> None:
    """Every engine: what it is, for which GPUs, by which library, whether it runs here and has passed its test."""
    known = upkeep.states()
    if json:
        for state in known:
            print_json(_facts(state))
        return
    for state in known:
        typer.echo(_line(state))
        if state.reason:
            typer.echo(f"    {shown(state.reason)}")
    if not known:
        _tell_none()


@app.command("verify")
def verify(json: Json = False) -> None:
    """Compare every byte with its manifest and, where the engine's GPU is at hand, its features with float32's."""
    damaged = {state.entry.folder: state for state in upkeep.damages()}
    settings = load_settings()
    failed = []
    known = upkeep.states()
    if not known and not json:
        _tell_none()
    for state in known:
        state = damaged.get(state.entry.folder, state)
        outcome = state.reason or state.state
        if state.state == upkeep.RUNS:
            try:
                verify_on_gpu(state.entry.folder, settings)
                outcome = "passed on this GPU"
            except EdgeClaidError as error:
                outcome = str(error)
                failed.append(error)
        if json:
            print_json(_facts(state) | {"outcome": outcome})
        else:
            sound = "damaged" if state.entry.folder in damaged else "sound"
            typer.echo(f"{_line(state)}\n    {sound}; {shown(outcome)}")
    if damaged:
        first = next(iter(damaged.values()))
        raise EngineError(f"{len(damaged)} of the engines are damaged: {first.reason}")
    if failed:
        raise failed[0]


@app.command("prune")
def prune(
    every: Annotated[bool, typer.Option("--all", help="All engines, not only what cannot be used.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    json: Json = False,
) -> None:
    """Delete what is damaged, stale or was left by a build that was killed; engines for other machines stay."""
    going = upkeep.prunable(every=every)
    if not dry_run:
        upkeep.remove([folder for folder, _ in going])
    for folder, reason in going:
        if json:
            print_json({"folder": str(folder), "reason": reason, "removed": not dry_run})
        else:
            typer.echo(f"{'would remove' if dry_run else 'removed'} {shown(str(folder))}  ({shown(reason)})")
    if not going and not json:
        typer.echo("nothing to remove", err=True)


def _tell_none() -> None:
    typer.echo("no engine is built: run `edge-claid build-engines`", err=True)


def _line(state: upkeep.State) -> str:
    known, folder = state.entry.manifest, shown(str(state.entry.folder))
    if known is None:
        return f"{folder}  {state.state}"
    return (
        f"{known.network} {known.precision}  {'+'.join(known.compute_capabilities)}  {known.flavour} {known.version}  "
        f"{known.engine_bytes / 1e6:.0f} MB  {known.verification['status']}  {state.state}  {folder}"
    )


def _facts(state: upkeep.State) -> dict[str, Any]:
    facts: dict[str, Any] = {"folder": str(state.entry.folder), "state": state.state, "reason": state.reason}
    known = state.entry.manifest
    if known is not None:
        facts |= {
            "network": known.network, "precision": known.precision, "targets": known.compute_capabilities,
            "flavour": known.flavour, "version": known.version, "cuda": known.cuda, "bytes": known.engine_bytes,
            "verification": known.verification["status"], "built": known.built,
        }  # fmt: skip
    return facts
