"""``edge-claid models``: list, fetch, import and export networks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_claid.cli.printing import print_json, shown
from edge_claid.errors import UsageError
from edge_claid.models import open_network
from edge_claid.models.exported import exported_file
from edge_claid.models.importing import import_path
from edge_claid.models.network import is_here
from edge_claid.models.tuned import known_networks
from edge_claid.models.zoo import entry, zoo

app = typer.Typer(no_args_is_help=True, help="Networks: list, fetch, import, export.")


@app.command("list")
def list_networks(json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout.")] = False) -> None:
    """Every known network: what it gives, its licence, where it comes from, whether it is on this machine."""
    if json:
        for known in known_networks():
            print_json(
                {
                    "name": known.name, "output": known.output, "stride": known.stride, "dim": known.feature_dim,
                    "layers": list(known.layers), "layer": known.layer, "variants": list(known.variants),
                    "licence": known.licence, "source": known.source, "here": is_here(known),
                }
            )  # fmt: skip
        return
    rows = [("network", "gives", "dim", "stride", "variants", "here", "source", "licence")]
    for known in known_networks():
        here = "yes" if is_here(known) else "no"
        sizes = (str(known.feature_dim), str(known.stride))
        rows.append((known.name, known.output, *sizes, "+".join(known.variants), here, known.source, known.licence))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


@app.command("fetch")
def fetch_networks(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="Default: the embedded two.")] = None,
    layer: Annotated[int | None, typer.Option(help="Layer to prepare; default: the network's own.")] = None,
) -> None:
    """Fetch networks and make their files ready, in every variant."""
    for known in [entry(name) for name in names] if names else [e for e in zoo().values() if e.embedded]:
        for variant in known.variants:
            network = open_network(known.name, variant=variant, layer=layer)
            typer.echo(f"{network.name} {network.variant} {network.path}")


@app.command("import")
def import_networks(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Wheels, weights, exported ONNX, folders.")],
) -> None:
    """Take network files that lie on this machine, for use without an index."""
    refused: list[UsageError] = []
    for path in paths:
        try:
            for name in import_path(path):
                typer.echo(name)
        except UsageError as error:
            refused.append(error)
    for earlier in refused[:-1]:
        typer.echo(shown(str(earlier)), err=True)
    if refused:
        raise refused[-1]


@app.command("export")
def export(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A network whose source is timm, or a fine-tuned one.")],
    checkpoint: Annotated[Path | None, typer.Option(help="Local weights instead of the hub's.")] = None,
) -> None:
    """Make the ONNX of a timm network (needs the extra export); prints the file, which `models import` takes.

    A fine-tuned network is one file already, which is printed.
    """
    if entry(name).tuned_from:
        typer.echo(str(exported_file(entry(name))))
        return
    # Imported here: torch is no part of the run time.
    from edge_claid.models.export import export_network

    typer.echo(str(export_network(entry(name), checkpoint=checkpoint)))
