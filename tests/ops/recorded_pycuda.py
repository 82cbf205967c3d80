"""PyCUDA's interface as far as PycudaDevice uses it, recorded: no GPU, no driver, memory in this process.

It shows that contexts are balanced, memory is given back and errors are told; it shows nothing of a GPU.
"""

from __future__ import annotations

import ctypes
import sys
import types
from typing import Any

import numpy as np


class Recorded:
    """A made-up driver. contexts: the stack of current ones. memory: bytes it has. fail: call to fail, by name.

    As strict as PyCUDA 2026.1's source where that is not obvious: PyCUDA keeps a stack of its own beside the driver's
    (own), takes Python's own whole numbers only, and frees nothing twice. test_real_pycuda.py has the real one.
    """

    def __init__(self, memory: int = 1 << 24) -> None:
        self.contexts: list[str] = ["another library's"]
        self.own = 0
        self.memory, self.fail = memory, ""
        self.allocated: dict[int, Any] = {}
        self.launches: list[dict[str, Any]] = []
        self.retained = 0

    def step(self, name: str, error: type[Exception]) -> None:
        """Every call to the driver wants our context on top, and fails where it is told to."""
        assert self.contexts[-1] == "primary", f"{name} in {self.contexts[-1]} context"
        if self.fail == name:
            raise error(f"{name} failed: recorded")

    def modules(self) -> dict[str, types.ModuleType]:
        """What stands for pycuda, pycuda.driver and pycuda.tools."""
        driver, tools, package = (types.ModuleType(f"pycuda{end}") for end in (".driver", ".tools", ""))
        errors = {"Error": type("Error", (Exception,), {})}
        for name in ("MemoryError", "LaunchError", "LogicError"):
            errors[name] = type(name, (errors["Error"],), {})
        recorded = self

        def whole(*numbers: object) -> None:
            assert all(type(number) is int for number in numbers), f"Boost.Python does not take {numbers}"

        class Context:
            def push(self) -> None:
                if recorded.own:
                    recorded.contexts.pop()
                recorded.contexts.append("primary")
                recorded.own += 1

            def detach(self) -> None:
                # Where it is not current, PyCUDA pushes it and leaves it there.
                assert recorded.own == 1
                recorded.retained, recorded.own = recorded.retained - 1, 0

            @staticmethod
            def get_current() -> object:
                return recorded.contexts[-1] if recorded.own else None

            @staticmethod
            def pop() -> None:
                recorded.contexts.pop()
                recorded.own -= 1
                if recorded.own:
                    recorded.contexts.append("primary")

        class Device:
            def __init__(self, number: int) -> None:
                if number:
                    raise errors["LogicError"]("invalid device ordinal")

            def retain_primary_context(self) -> Context:
                recorded.retained += 1
                return Context()

            def compute_capability(self) -> tuple[int, int]:
                return 8, 7

            def get_attribute(self, name: str) -> int:
                return {"shared": 166912, "processors": 8}[name]

            def name(self) -> str:
                return "recorded"

        class Stream:
            handle = 0x5EED

            def synchronize(self) -> None:
                recorded.step("synchronize", errors["LaunchError"])

        class Allocation:
            def __init__(self, size: int) -> None:
                used = sum(len(block) for block in recorded.allocated.values())
                if used + size > recorded.memory:
                    raise errors["MemoryError"]("out of memory")
                self._block = (ctypes.c_char * size)()
                recorded.allocated[id(self)] = self._block

            def __int__(self) -> int:
                return ctypes.addressof(self._block)

            def free(self) -> None:
                del recorded.allocated[id(self)]

        class Pool:
            def allocate(self, size: int) -> Allocation:
                whole(size)
                recorded.step("allocate", errors["MemoryError"])
                return Allocation(size)

            def stop_holding(self) -> None:
                recorded.step("stop_holding", errors["Error"])

        class Function:
            def __init__(self, name: str) -> None:
                self._name, self.attributes = name, {}

            def set_attribute(self, name: str, value: int) -> None:
                whole(value)
                self.attributes[name] = value

            def __call__(self, arguments: np.void, **options: Any) -> None:
                recorded.step("launch", errors["LaunchError"])
                whole(*options["grid"], *options["block"], options["shared"])
                assert isinstance(arguments, np.void), "PyCUDA takes a struct as numpy.void"
                recorded.launches.append(
                    {"name": self._name, "bytes": arguments.tobytes(), **options} | self.attributes
                )

        class Module:
            def get_function(self, name: str) -> Function:
                return Function(name)

        def htod(address: int, values: np.ndarray, stream: Stream) -> None:
            recorded.step("upload", errors["Error"])
            whole(address)
            ctypes.memmove(address, values.ctypes.data, values.nbytes)

        def dtoh(values: np.ndarray, address: int, stream: Stream) -> None:
            recorded.step("download", errors["Error"])
            whole(address)
            ctypes.memmove(values.ctypes.data, address, values.nbytes)

        def memset(address: int, byte: int, count: int, stream: Stream) -> None:
            whole(address, byte, count)
            ctypes.memset(address, byte, count)

        for name, value in {
            **errors,
            "init": lambda: None,
            "Context": Context,
            "Device": Device,
            "Stream": Stream,
            "module_from_buffer": lambda code: Module(),
            "memcpy_htod_async": htod,
            "memcpy_dtoh_async": dtoh,
            "memset_d8_async": memset,
            "mem_get_info": lambda: (1234, recorded.memory),
            "device_attribute": types.SimpleNamespace(
                MAX_SHARED_MEMORY_PER_BLOCK_OPTIN="shared", MULTIPROCESSOR_COUNT="processors"
            ),
            "function_attribute": types.SimpleNamespace(MAX_DYNAMIC_SHARED_SIZE_BYTES="max_dynamic_shared"),
        }.items():
            setattr(driver, name, value)
        tools.DeviceMemoryPool = Pool  # type: ignore[attr-defined]
        package.driver, package.tools = driver, tools  # type: ignore[attr-defined]
        return {"pycuda": package, "pycuda.driver": driver, "pycuda.tools": tools}


def installed(monkeypatch: Any, recorded: Recorded) -> Any:
    """edge_claid.ops.cuda.pycuda_device over this driver; the module as it was comes back after the test."""
    for name, module in recorded.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "edge_claid.ops.cuda.pycuda_device", raising=False)
    import edge_claid.ops.cuda

    monkeypatch.delattr(edge_claid.ops.cuda, "pycuda_device", raising=False)
    from edge_claid.ops.cuda import pycuda_device

    monkeypatch.setattr(pycuda_device, "machine_code", lambda family, arch, cache_dir: f"{family} {arch}".encode())
    monkeypatch.setattr(pycuda_device, "pop_context", recorded.contexts.pop)
    return pycuda_device
