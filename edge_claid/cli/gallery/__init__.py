"""``edge-claid gallery VERB NAME.claid``: look into a gallery and change it. One file per group of verbs."""

from __future__ import annotations

import typer

from edge_claid.cli.gallery import carrying, changing, looking, merging, recoding, soundness

app = typer.Typer(help="Look into a gallery and change it.", no_args_is_help=True)
app.command("info")(looking.info)
app.command("list")(looking.list_images)
app.command("label")(changing.label)
app.command("remove")(changing.remove)
app.command("compact")(changing.compact)
app.command("verify")(soundness.verify)
app.command("merge")(merging.merge)
app.command("export")(carrying.export)
app.command("import")(carrying.import_)
app.command("reencode")(recoding.reencode)
app.command("retrain")(recoding.retrain)
