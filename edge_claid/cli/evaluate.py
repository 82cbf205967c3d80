"""``edge-claid eval``: how well the pipeline finds and locates on a dataset, or how many objects its regions cover."""

from __future__ import annotations

import contextlib
import json as json_format
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from edge_claid.cli.printing import print_json, print_table, shown
from edge_claid.cli.progress import FileProgress
from edge_claid.datasets import BoxDataset, is_box_dataset, open_boxes, open_dataset
from edge_claid.errors import StorageError, UsageError
from edge_claid.gallery.enrolment.outcome import Outcome

REGION_NAMES = "claid, grid, whole"


def evaluate(
    dataset: Annotated[Path, typer.Argument(help="Folder of a dataset, or a COCO instances JSON.")],
    gallery: Annotated[Path | None, typer.Option(help="Keep the enrolment here and go on from it next time.")] = None,
    regions: Annotated[list[str] | None, typer.Option(help=f"Of {REGION_NAMES}; may be repeated.")] = None,
    code_bytes: Annotated[
        list[int] | None, typer.Option("--bytes", help="Bytes of a region's code, 0 for float; may be repeated.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many queries (or pictures with boxes).")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of a COCO file's pictures.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write all figures to this JSON file as well.")] = None,
    json: Annotated[bool, typer.Option("--json", help="A JSON line per setting on stdout.")] = False,
) -> None:
    """Evaluate on a dataset: mAP, recall@1 and mIoU, overall and by source; on boxes, the recall of regions."""
    names = regions or ["claid"]
    if gallery is not None and len(names) > 1:
        raise UsageError("--gallery holds one kind of regions: give one --regions with it")
    if is_box_dataset(dataset):
        boxed = open_boxes(dataset, images)
        results = _recall(boxed if limit is None else boxed.limited(limit), names, json)
    else:
        results = _search(dataset, names, list(code_bytes or [None]), gallery, limit, json)  # type: ignore[list-item]
    told = []
    for setting, report in results:
        told.append({"setting": setting, **report})
        if json:
            print_json(told[-1] if len(names) * len(code_bytes or [0]) > 1 else report)
        else:
            print_table(_table(setting, report))
    if out is not None:
        _write(out, {"dataset": dataset.name, "results": told})


Results = Iterable[tuple[dict[str, Any], dict[str, Any]]]


def _search(
    path: Path, names: list[str], lengths: list[int | None], gallery: Path | None, limit: int | None, json: bool
) -> Results:
    from edge_claid.evaluate.sweep import sweep
    from edge_claid.pipeline import Pipeline

    dataset = open_dataset(path)
    dataset = dataset if limit is None else dataset.limited(limit)
    searched = sum(image.searched for image in dataset.images)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-claid-eval-")))
        pipeline = stack.enter_context(Pipeline.open())
        told = stack.enter_context(FileProgress("enrolling", lambda: searched * len(names), json))
        kept = {names[0]: gallery} if gallery is not None else None

        def tell(outcome: Outcome) -> None:
            told.advance(outcome.status)
            if outcome.status == "rejected":  # the figures are those of the others
                typer.echo(f"rejected {shown(outcome.file)}: {shown(outcome.reason or '')}", err=True)

        rows = sweep(dataset, pipeline, pipeline.settings, folder, names, lengths, kept, tell)
        for setting, report in rows:
            yield setting.as_json(), report


def _recall(dataset: BoxDataset, names: list[str], json: bool) -> Results:
    from edge_claid.evaluate.region_recall import recall_of_regions
    from edge_claid.pipeline import Pipeline

    with contextlib.ExitStack() as stack:
        # Proposals need no network.
        detect = stack.enter_context(Pipeline.open()).regions if "claid" in names else None
        told = stack.enter_context(FileProgress("pictures", lambda: len(dataset.images) * len(names), json))
        for name in names:
            recall = recall_of_regions(dataset, name, detect, lambda: told.advance("done"))
            yield {"regions": name}, recall.as_json()


def _table(setting: dict[str, Any], report: dict[str, Any]) -> Table:
    """Figures for the eye: a row by source, or the recall by IoU."""
    table = Table(title=", ".join(f"{key.replace('_', ' ')} {value}" for key, value in setting.items()))
    if "recall" in report:
        table.add_column("figure")
        table.add_column("value", justify="right")
        table.add_row("objects", str(report["objects"]))
        table.add_row("regions an image", f"{report['regions_per_image']:.1f}")
        table.add_row("mean best IoU", _shown(report["best_iou"]))
        for threshold, share in report["recall"].items():
            table.add_row(f"recall at IoU {threshold}", _shown(share))
        return table
    table.add_column("source")
    for name in report["all"]:
        table.add_column(name, justify="right")
    for source, figures in report.items():
        table.add_row(source, *(_shown(figure) for figure in figures.values()))
    return table


def _shown(figure: float | int | None) -> str:
    if figure is None:
        return "–"
    return str(figure) if isinstance(figure, int) else f"{figure:.3f}"


def _write(path: Path, content: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json_format.dumps(content, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{path} cannot be written ({error.strerror}); give another --out") from None
