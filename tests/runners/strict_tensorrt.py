"""Recorded objects behind the names and signatures that TensorRT's own classes have.

`tensorrt_interface.json` tells, for several versions, what NVIDIA's bindings say of themselves
(`tools/tensorrt_interface.py`). A name that a version lacks is missing here too, and a call that its bindings would
refuse is refused with their error, TypeError. What the calls then do is recorded, not TensorRT.
"""

from __future__ import annotations

import ctypes
import enum
import json
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

Table = dict[str, dict[str, Any]]
TABLES: dict[str, Table] = json.loads(Path(__file__).with_name("tensorrt_interface.json").read_text())
# What Python code derives from; every other class is only made or given.
_DERIVED = ("ILogger", "IProgressMonitor")
# Of the bindings' names for what a parser gives.
_RETURNED = {"nvonnxparser::IParserError": "ParserError"}


def version_of(name: str, version: str) -> str:
    """The table of a flavour's version: the same minor version, else the same major one."""
    known = [key for key in TABLES if key.split()[0] == name]
    for parts in (2, 1):
        for key in known:
            if key.split()[1].split(".")[:parts] == version.split(".")[:parts]:
                return key
    raise KeyError(f"no table of {name} {version}")


class StrictModule:
    """A module of bindings. played: makes what the module's classes make; its attributes are their names."""

    def __init__(self, version: str, played: Any) -> None:
        self._version, self._played, self._table = version, played, TABLES[version]
        self._made = {name: self._class(name) for name in self._table if "." not in name}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._made:
            raise AttributeError(f"{self._version} has no {name}")
        return self._made[name]

    def _class(self, name: str) -> Any:
        members = self._table[name]
        if members and all(isinstance(value, int) for value in members.values()):
            return enum.IntEnum(name, members)
        if name in _DERIVED:
            made = type(name, (), {"real_name": name, "__init__": lambda this: None})
            for part, values in self._table.items():
                if part.startswith(f"{name}."):
                    setattr(made, part.partition(".")[2], enum.IntEnum(part, values))
            return made

        def make(*arguments: Any, **named: Any) -> Any:
            given, named = taken(f"{name}.__init__", members["__init__"], arguments, named)
            return wrapped(getattr(self._played, name)(*given, **named), name, self._table)

        return make


class Strict:
    """An object of a real class: only its names, and only calls it would take."""

    def __init__(self, played: Any, real_name: str, table: Table) -> None:
        self.__dict__.update(played=played, real_name=real_name, _table=table)

    def __getattr__(self, name: str) -> Any:
        told = self._told(name)
        if told == "property":
            return getattr(self.played, name)

        def call(*arguments: Any, **named: Any) -> Any:
            given, named = taken(f"{self.real_name}.{name}", told, arguments, named)
            gives = told[0][1]
            return wrapped(getattr(self.played, name)(*given, **named), _RETURNED.get(gives, gives), self._table)

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        if self._told(name) != "property":
            raise AttributeError(f"{self.real_name}.{name} is a method")
        setattr(self.played, name, value)

    def _told(self, name: str) -> Any:
        if name not in self._table[self.real_name]:
            raise AttributeError(f"{self.real_name} has no attribute {name!r}")
        return self._table[self.real_name][name]


def wrapped(value: Any, real_name: str, table: Table) -> Any:
    """As the bindings hand it out; None stays None, as they give where a library refuses."""
    if value is None or real_name not in table:
        return value
    if real_name == "IHostMemory":  # offers its bytes and nothing else
        return (ctypes.c_char * len(value)).from_buffer_copy(value)
    return Strict(value, real_name, table)


def taken(
    call: str, overloads: list[list[Any]], arguments: tuple[Any, ...], named: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments as the recorded object takes them. Raises TypeError where no overload would take them."""
    for parameters, _ in overloads:
        if _fits(parameters, arguments, named):
            plain = [getattr(value, "played", value) for value in arguments]
            return plain, {name: getattr(value, "played", value) for name, value in named.items()}
    told = " or ".join(f"({', '.join(parameters)})" for parameters, _ in overloads)
    raise TypeError(f"{call}(): incompatible function arguments: takes {told}, not {arguments} {named}")


def _fits(parameters: list[str], arguments: tuple[Any, ...], named: dict[str, Any]) -> bool:
    if len(arguments) > len(parameters):
        return False
    rest = dict(named)
    for index, parameter in enumerate(parameters):
        name, _, kind = parameter.partition(": ")
        kind, _, default = kind.partition(" = ")
        if index < len(arguments):
            value = arguments[index]
        elif name in rest:
            value = rest.pop(name)
        elif default:
            continue
        else:
            return False
        if not (value is None and default == "None") and not _TYPES.get(kind, _of_class(kind))(value):
            return False
    return not rest


def _is_int(value: Any) -> bool:
    try:
        operator.index(value)
    except TypeError:
        return False
    return True


def _is_buffer(value: Any) -> bool:
    try:
        memoryview(value)
    except TypeError:
        return False
    return True


def _of_class(kind: str) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        if isinstance(value, enum.IntEnum):
            return type(value).__name__ == kind
        return getattr(value, "real_name", "") == kind

    return fits


_TYPES: dict[str, Callable[[Any], bool]] = {
    "int": _is_int,
    "typing.SupportsInt": _is_int,
    "str": lambda value: isinstance(value, str),
    "bool": lambda value: isinstance(value, bool),
    "buffer": _is_buffer,
    "typing_extensions.Buffer": _is_buffer,
    "tuple": lambda value: isinstance(value, tuple),
    "list": lambda value: isinstance(value, list),
    "Dims": lambda value: isinstance(value, (tuple, list)) and all(_is_int(size) for size in value),
}
