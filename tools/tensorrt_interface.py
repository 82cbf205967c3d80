"""What TensorRT's own Python classes are called and take, for the tests that play them without a GPU.

    python tools/tensorrt_interface.py NAME=FILE… [--out tests/runners/tensorrt_interface.json]

NAME is how the version is kept ("tensorrt 10.3.0"), FILE the compiled module of NVIDIA's bindings: `tensorrt.so` of a
wheel `tensorrt-cu12-bindings`, unpacked, or `tensorrt_rtx.so`. Only names and signatures of what edge_claid uses are
written, as the module tells them to `help()`; the bindings themselves are not in this repository. The libraries behind
them, gigabytes that need a driver, are not needed: where they are missing, empty ones stand in while the module is
imported, for which a C compiler must be there.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

TABLE = Path(__file__).resolve().parent.parent / "tests" / "runners" / "tensorrt_interface.json"
# What edge_claid uses, class by class; what a version lacks is left out of its table.
USED = {
    "ILogger": ["__init__", "log"],
    "ILogger.Severity": ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"],
    "NetworkDefinitionCreationFlag": ["STRONGLY_TYPED"],
    "Builder": [
        "__init__", "create_network", "create_builder_config", "create_optimization_profile",
        "build_serialized_network",
    ],
    "INetworkDefinition": [],
    "OnnxParser": ["__init__", "parse", "num_errors", "get_error"],
    "ParserError": ["desc", "node_operator", "node_name"],
    "IBuilderConfig": [
        "num_compute_capabilities", "set_compute_capability", "set_memory_pool_limit", "clear_flag",
        "create_timing_cache", "set_timing_cache", "progress_monitor", "add_optimization_profile",
    ],
    "ComputeCapability": ["SM75", "SM80", "SM86", "SM89", "SM120", "SM121"],
    "MemoryPoolType": ["WORKSPACE"],
    "BuilderFlag": ["TF32"],
    "ITimingCache": ["serialize"],
    "IProgressMonitor": ["__init__", "phase_start", "step_complete", "phase_finish"],
    "IOptimizationProfile": ["set_shape"],
    "IHostMemory": [],
    "Runtime": ["__init__", "deserialize_cuda_engine"],
    "ICudaEngine": ["num_io_tensors", "get_tensor_name", "create_execution_context", "create_runtime_config"],
    "IRuntimeConfig": ["cuda_graph_strategy"],
    "CudaGraphStrategy": ["WHOLE_GRAPH_CAPTURE"],
    "IExecutionContext": ["set_input_shape", "get_tensor_shape", "set_tensor_address", "execute_async_v3"],
}  # fmt: skip
_ENTRIES = (
    "createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL", "getPluginRegistry",
    "getBuilderPluginRegistry", "initLibNvInferPlugins", "createNvOnnxParser_INTERNAL", "getNvOnnxParserVersion",
    "createNvOnnxParserRefitter_INTERNAL",
)  # fmt: skip
_SIGNATURE = re.compile(r"^(?:\d+\. )?(?P<name>\w+)\((?P<takes>.*)\) -> (?P<gives>.+)$", re.MULTILINE)


def imported(path: Path, scratch: Path) -> ModuleType:
    """The compiled module, with empty libraries in place of those that are missing."""
    source = scratch / "empty.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in _ENTRIES))
    listed = subprocess.run(["readelf", "-d", str(path)], capture_output=True, text=True, check=True).stdout
    for needed in re.findall(r"NEEDED.*\[(lib(?:nv|tensorrt)[^\]]*)\]", listed):
        try:
            ctypes.CDLL(needed, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            made = scratch / needed
            command = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{needed}", "-o", str(made), str(source)]
            subprocess.run(command, check=True)
            ctypes.CDLL(str(made), mode=ctypes.RTLD_GLOBAL)
    spec = importlib.util.spec_from_file_location(path.name.partition(".")[0], path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def interface(module: ModuleType) -> dict[str, dict[str, Any]]:
    """{class: {name: signatures of a method, "property", or the value of an enumeration's member}}."""
    table: dict[str, dict[str, Any]] = {}
    for path, names in USED.items():
        kind: Any = module
        for part in path.split("."):
            kind = getattr(kind, part, None)
        if kind is not None:
            table[path] = {name: _told(getattr(kind, name), module) for name in names if hasattr(kind, name)}
    return table


def _told(member: Any, module: ModuleType) -> Any:
    if isinstance(member, property):
        return "property"
    if hasattr(type(member), "__members__"):
        return int(member)
    text = (member.__doc__ or "").replace(f"{module.__name__}.", "")
    return [[_parameters(match["takes"]), match["gives"]] for match in _SIGNATURE.finditer(text)]


def _parameters(text: str) -> list[str]:
    """Each parameter as "name: type" or "name: type = default", without self."""
    return [part.strip() for part in re.split(r", (?=\w+: )", text) if part and not part.startswith("self:")]


def main() -> None:
    """One module a process, as two of them do not live in one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--out", type=Path, default=TABLE)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        with tempfile.TemporaryDirectory() as scratch:
            print(json.dumps(interface(imported(Path(chosen.modules[0]), Path(scratch)))))
        return
    tables = json.loads(chosen.out.read_text()) if chosen.out.is_file() else {}
    for name, _, path in (module.partition("=") for module in chosen.modules):
        command = [sys.executable, __file__, "--one", path]
        tables[name] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    chosen.out.write_text(_laid_out(tables))


def _laid_out(tables: dict[str, dict[str, Any]]) -> str:
    """A line a class, so that a version's differences are seen in a diff."""
    versions = []
    for version, classes in sorted(tables.items()):
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(told)}" for name, told in classes.items())
        versions.append(f" {json.dumps(version)}: {{\n{lines}\n }}")
    return "{\n" + ",\n".join(versions) + "\n}\n"


if __name__ == "__main__":
    main()
