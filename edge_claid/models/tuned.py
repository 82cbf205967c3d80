"""Networks fine-tuned on a machine's own pictures: kept as one ONNX file each, named by its content."""

from __future__ import annotations

import hashlib
import re
import tempfile
from pathlib import Path

import onnx

from edge_claid.models.cache import models_folder, storage_errors
from edge_claid.models.exported import NETWORK_KEY, keep_exported
from edge_claid.models.zoo import TUNED_NAME, ZooEntry, entry, tuned_entry, zoo

_FILE = re.compile(rf"(?P<name>{TUNED_NAME.pattern})-exported-[0-9a-f]{{64}}")


def keep_tuned(model: onnx.ModelProto, base: ZooEntry, cache_dir: Path | None = None) -> ZooEntry:
    """Keeps the ONNX of a network fine-tuned from ``base`` in the cache; how it is called there.

    model: with the outputs of the base's default layer; its metadata gets the name. Equal weights give one name and one
    file. Raises StorageError, and UsageError for a base that cannot be fine-tuned.
    """
    digest = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()[:8]
    known = tuned_entry(f"{base.name}-udq-{digest}", base)
    named = onnx.ModelProto()
    named.CopyFrom(model)
    onnx.helper.set_model_props(named, {NETWORK_KEY: known.name})
    folder = models_folder(cache_dir)
    with storage_errors(folder), tempfile.TemporaryDirectory(prefix=".tuned-", dir=folder) as work:
        made = Path(work) / "tuned.onnx"
        made.write_bytes(named.SerializeToString(deterministic=True))
        keep_exported(known, made, cache_dir)
    return known


def known_networks(cache_dir: Path | None = None) -> list[ZooEntry]:
    """The networks of zoo.toml and the fine-tuned ones on this machine."""
    found = (_FILE.fullmatch(path.stem) for path in sorted(models_folder(cache_dir).glob("*-udq-*.onnx")))
    names = dict.fromkeys(match["name"] for match in found if match and match["base"] in zoo())
    return [*zoo().values(), *(entry(name) for name in names)]
