"""A gallery as pages of small pictures for any browser: one folder, no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Sequence

from edge_claid.errors import StorageError, UsageError
from edge_claid.gallery.storage.rows import ImageRow

ON_A_PAGE = 200
_STYLE = (
    "body{font:14px sans-serif;margin:1em;background:#fff;color:#222}main{display:flex;flex-wrap:wrap;gap:10px}"
    "figure{margin:0;width:200px;overflow-wrap:anywhere}img,.none{width:200px;height:200px;object-fit:contain;"
    "background:#eee;display:block}figcaption b{display:block}.none{display:flex;align-items:center;"
    "justify-content:center;color:#777;text-align:center;font-size:12px}nav a{margin-right:.7em}"
)


def write_contact_sheet(
    folder: str,
    title: str,
    rows: Sequence[ImageRow],
    thumbnail: Callable[[ImageRow], bytes | str],
    overwrite: bool = False,
) -> int:
    """Write ``index.html``, further pages and ``thumbs/`` into a folder; how many pictures could be shown.

    thumbnail: the JPEG of an image, or in words why there is none. Raises UsageError where the folder holds something
    and ``overwrite`` is False, StorageError where it cannot be written.
    """
    if os.path.lexists(folder) and not overwrite and (not os.path.isdir(folder) or os.listdir(folder)):
        raise UsageError(f"{folder} exists and is not empty; name another folder, or add --overwrite")
    shown = 0
    pages = range(max(1, -(-len(rows) // ON_A_PAGE)))
    try:
        os.makedirs(os.path.join(folder, "thumbs"), exist_ok=True)
        for page in pages:
            figures = []
            for row in rows[page * ON_A_PAGE : (page + 1) * ON_A_PAGE]:
                picture = thumbnail(row)
                shown += isinstance(picture, bytes)
                figures.append(_figure(folder, row, picture))
            with open(os.path.join(folder, _name(page)), "w", encoding="utf-8") as file:
                file.write(_page(title, len(rows), page, pages, figures))
    except OSError as error:
        raise StorageError(f"the contact sheet {folder} cannot be written ({error.strerror})") from error
    return shown


def _figure(folder: str, row: ImageRow, picture: bytes | str) -> str:
    if isinstance(picture, bytes):
        name = f"thumbs/{row.id}.jpg"
        with open(os.path.join(folder, name), "wb") as file:
            file.write(picture)
        shown = f'<img src="{name}" alt="" loading="lazy">'
    else:
        shown = f'<div class="none">{_text(picture)}</div>'
    label = f"<b>{_text(row.label)}</b>" if row.label else ""
    place = _text(f"{row.root}/{row.path}")
    facts = f"{row.width} × {row.height}, {row.regions} regions"
    return f"<figure>{shown}<figcaption>{label}{place}<br>{facts}</figcaption></figure>"


def _page(title: str, count: int, page: int, pages: range, figures: list[str]) -> str:
    links = "".join(
        f"<b>{number + 1}</b> " if number == page else f'<a href="{_name(number)}">{number + 1}</a>' for number in pages
    )
    navigation = f"<nav>{links}</nav>" if len(pages) > 1 else ""
    # The policy holds even where a browser would find something to run.
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src 'self' file:; "
        "style-src 'unsafe-inline'\">\n"
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head>\n<body><h1>{_text(title)}</h1>"
        f"<p>{count} images</p>{navigation}\n<main>\n" + "\n".join(figures) + f"\n</main>{navigation}</body></html>\n"
    )


def _name(page: int) -> str:
    return "index.html" if page == 0 else f"page-{page + 1}.html"


def _text(value: str) -> str:
    """Any name as text of a page: markup, control characters and bytes that are no text are escaped."""
    plain = "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()
        for character in value
    )
    return html.escape(plain)
