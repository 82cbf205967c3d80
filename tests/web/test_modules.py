"""The page's modules as files: what the server gives out, and what each is built upon."""

from __future__ import annotations

import re
from graphlib import TopologicalSorter

from edge_claid.web.app import SCRIPTS, STATIC


def test_the_modules_of_the_page_are_layered() -> None:
    uses = {name: set(re.findall(r'from "\./(.+?)"', (STATIC / name).read_text(encoding="utf-8"))) for name in SCRIPTS}
    order = list(TopologicalSorter(uses).static_order())  # raises CycleError
    assert (order[0], order[-1]) == ("page.js", "app.js")


def test_every_module_is_given_out() -> None:
    assert {file.name for file in STATIC.glob("*.js")} == set(SCRIPTS)
