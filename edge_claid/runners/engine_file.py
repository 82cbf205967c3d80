"""A built engine on disk: ``model.engine`` and the manifest beside it, which is read before the engine is.

Manifest and engine are checked as files from outside are: form, sizes, SHA-256; an engine is deserialised only by the
library, on the kind of GPU, that it was built for.
"""

from __future__ import annotations

import json
import re
import stat
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from edge_claid.errors import EngineError
from edge_claid.runners.tensorrt_api import RTX_TARGETS

ENGINE, MANIFEST, TIMING_CACHE = "model.engine", "manifest.json", "timing.cache"
FORMAT = 1
_MOST_BYTES = 1 << 20
# What names and versions are made of: they stand in messages, on terminals and in commands to be copied.
_PLAIN = {
    "key": r"[\w.-]{1,64}", "network": r"[\w.-]{1,100}", "precision": r"[\w-]{1,20}", "input": r"[\w-]{1,20}",
    "flavour": r"[\w-]{1,40}", "version": r"[\w.+-]{1,40}", "cuda": r"[\w.+-]{0,40}",
}  # fmt: skip
_SHAPES = ("smallest", "usual", "largest")
NOT_VERIFIED, PASSED, FAILED = "not verified", "passed", "failed"


@dataclass(frozen=True)
class Manifest:
    """What an engine is and how it came to be.

    network, layer, precision, input, outputs, shapes: as in its recipe. wider: built with the recipe's wider float32
    set. source_sha256: of the network's weights. graph: identity of the typed ONNX by what it is made from;
    onnx_sha256: of its bytes. flavour: "tensorrt" or "tensorrt-rtx"; version, cuda: of that library;
    compute_capabilities: GPUs it runs on, as "sm_87". built: UTC, told only, nothing is decided
    by it. verification: {"status": "not verified", "passed" or "failed", "failures", "graph", "engine"}.
    """

    key: str
    network: str
    layer: int
    precision: str
    wider: bool
    input: str
    outputs: list[str]
    shapes: dict[str, list[int]]
    source_sha256: str
    graph: str
    onnx_sha256: str
    flavour: str
    version: str
    cuda: str
    compute_capabilities: list[str]
    engine_sha256: str
    engine_bytes: int
    built: str
    build_seconds: float
    build_memory_bytes: int
    built_on: str
    verification: dict[str, Any] = field(default_factory=lambda: {"status": NOT_VERIFIED})
    format: int = FORMAT

    @property
    def rebuild(self) -> str:
        """The command that builds this engine anew, by the library that built it."""
        return self.rebuild_on(None)

    def rebuild_on(self, sm: str | None) -> str:
        """The command that builds such an engine for this GPU ("sm_87"), which may need another library."""
        other = sm is not None and self.flavour == "tensorrt-rtx" and sm not in RTX_TARGETS
        backend = "" if other else f" --backend {self.flavour}"
        return f"edge-claid build-engines{backend} --model {self.network} --precision {self.precision} --force"

    def with_verification(self, verification: dict[str, Any]) -> Manifest:
        """The same engine with another report."""
        return replace(self, verification=verification)

    def as_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"


@dataclass(frozen=True)
class Running:
    """What an engine would run on: the library's flavour, version and CUDA, and the GPU's compute capability."""

    flavour: str
    version: str
    cuda: str
    sm: str


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the engine in this folder. Raises EngineError where it is missing or cannot be trusted."""
    path = folder / MANIFEST
    again = "delete that folder (`edge-claid engines prune`) and run `edge-claid build-engines`"
    try:
        table = json.loads(_content(path))
    except FileNotFoundError as error:
        raise EngineError(f"there is no engine in {folder}: run `edge-claid build-engines`") from error
    except RecursionError as error:
        raise EngineError(f"{path} cannot be read (it is nested too deeply): {again}") from error
    except (OSError, ValueError) as error:
        raise EngineError(f"{path} cannot be read ({error}): {again}") from error
    if not isinstance(table, dict) or table.get("format") != FORMAT:
        raise EngineError(f"{path} is not a manifest of this version of edge-claid: {again}")
    kinds = {entry.name: entry.type for entry in fields(Manifest)}
    wrong = [name for name, kind in kinds.items() if not _fits(table.get(name), str(kind))]
    wrong = wrong or [name for name in kinds if not _plausible(name, table[name])]
    if wrong or set(table) - set(kinds):
        raise EngineError(f"{path} lacks or misstates {', '.join(wrong) or 'nothing'}: {again}")
    return Manifest(**table)


def _content(path: Path) -> str:
    """The text of a manifest. Raises OSError, and ValueError for what is no small file of text."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is no file")
    with open(path, "rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError("it is too large for a manifest")
    return content.decode()


def engine_path(folder: Path, manifest: Manifest, sha256: str | None = None) -> Path:
    """The engine file, its size checked, and its SHA-256 where the caller has taken it. Raises EngineError."""
    path = folder / ENGINE
    size = path.stat().st_size if path.is_file() else -1
    if size != manifest.engine_bytes or (sha256 is not None and sha256 != manifest.engine_sha256):
        what = "is missing" if size < 0 else "is not the file that was built"
        raise EngineError(f"{path} {what}: rebuild it with `{manifest.rebuild}`")
    return path


def check_fit(manifest: Manifest, running: Running) -> None:
    """Refuse an engine of another library, version or GPU before it is read. Raises EngineError naming both sides."""
    differing = [
        name
        for name, built, here in (
            ("library", manifest.flavour, running.flavour),
            ("version", manifest.version, running.version),
            ("CUDA", manifest.cuda, running.cuda),
        )
        if built != here
    ]
    if running.sm not in manifest.compute_capabilities:
        differing.append("GPU")
    if differing:
        built_for = "+".join(manifest.compute_capabilities)
        raise EngineError(
            f"the engine of {manifest.network} was built with {manifest.flavour} {manifest.version}, CUDA "
            f"{manifest.cuda or 'unknown'}, for {built_for}; running here is {running.flavour} {running.version}, CUDA "
            f"{running.cuda or 'unknown'}, on {running.sm} (another {', '.join(differing)}): run "
            f"`{manifest.rebuild_on(running.sm)}`"
        )


def _fits(value: Any, kind: str) -> bool:
    if kind == "dict[str, list[int]]":
        return isinstance(value, dict) and all(_fits(entry, "list[int]") for entry in value.values())
    if kind.startswith("list["):
        inner = {"str": str, "int": int}[kind[5:-1]]
        return isinstance(value, list) and all(isinstance(entry, inner) for entry in value)
    if kind.startswith("dict["):
        return isinstance(value, dict) and value.get("status") in (NOT_VERIFIED, PASSED, FAILED)
    plain: dict[str, Any] = {"str": str, "int": int, "bool": bool, "float": (int, float)}
    return isinstance(value, plain[kind]) and (kind == "bool" or not isinstance(value, bool))


def _plausible(name: str, value: Any) -> bool:
    """Whether a value of the right kind is one that a build writes."""
    if name in _PLAIN:
        return re.fullmatch(_PLAIN[name], value, re.ASCII) is not None
    if name == "compute_capabilities":
        return bool(value) and all(re.fullmatch(r"sm_[0-9]{2,3}", target) for target in value)
    if name == "shapes":
        return all(len(value.get(which, ())) == 3 for which in _SHAPES)
    if name == "verification":
        failures = value.get("failures", [])
        return _fits(failures, "list[str]") and all(failure.isprintable() for failure in failures)
    return True
