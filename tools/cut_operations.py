"""The operations that are cut short, by name."""

from __future__ import annotations

from collections.abc import Callable

import cut_carrying
import cut_changes
import cut_enrolment
from cut_world import Step, World

OPERATIONS: dict[str, Callable[[World], Step]] = {
    "enrol": cut_enrolment.enrol,
    "enrol videos": cut_enrolment.enrol_videos,
    "remove": cut_changes.remove,
    "label": cut_changes.label,
    "compact": cut_changes.compact,
    "merge": cut_carrying.merge,
    "import labels": cut_carrying.import_labels,
    "import gallery": cut_carrying.import_gallery,
    "copy": cut_carrying.copy,
    "code-book change": cut_changes.adopt,
    "retrain": cut_changes.retrain,
    "UDQ": cut_changes.learn,
    "reencode": cut_changes.reencode,
    "repair": cut_changes.repair,
}
if not cut_changes.can_learn():
    del OPERATIONS["UDQ"]
