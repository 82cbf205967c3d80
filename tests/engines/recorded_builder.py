"""TensorRT's builder as its bindings describe it: it keeps what it is asked for, and its "engine" is the ONNX file.

To be put behind strict_tensorrt.StrictModule, which has the real names and signatures. Nothing here is TensorRT.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

TIMINGS = b"timings of this GPU"


class RecordedBuilder(SimpleNamespace):
    """What a build was asked for. failing: the call that the library answers with nothing; says: what it logs then."""

    def __init__(self, failing: str = "", says: str = "") -> None:
        super().__init__(
            failing=failing, says=says, logger=None, flags=None, profile=None, limits={}, cleared=[], timings=None,
            progress_monitor=None, tried=[], content=b"",
        )  # fmt: skip

    def _answer(self, call: str, value: Any) -> Any:
        if call != self.failing:
            return value
        if self.says:
            self.logger.log(self.logger.Severity.ERROR, self.says)
        return None

    def Builder(self, logger: Any) -> Any:
        self.logger = logger
        if self._answer("Builder", True) is None:
            raise TypeError("pybind11::init(): factory function returned nullptr")
        return self

    def OnnxParser(self, network: Any, logger: Any) -> Any:
        return self

    # -- the builder

    def create_network(self, flags: int = 0) -> Any:
        self.flags = flags
        return self

    def create_builder_config(self) -> Any:
        return self

    def create_optimization_profile(self) -> Any:
        return self

    def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
        if (monitor := self.progress_monitor) is not None:
            monitor.phase_start("Building Engine", None, 2)
            for step in range(2):
                monitor.phase_start("Tactics", "Building Engine", 1)
                assert monitor.step_complete("Tactics", 0)
                monitor.phase_finish("Tactics")
                assert monitor.step_complete("Building Engine", step)
            monitor.phase_finish("Building Engine")
        return self._answer("build_serialized_network", self.content)

    # -- the parser

    def parse(self, model: bytes, path: str | None = None) -> bool:
        self.content = model
        return self._answer("parse", True) is not None

    @property
    def num_errors(self) -> int:
        return 0 if self.failing != "parse" or self.says else 1

    def get_error(self, index: int) -> Any:
        return SimpleNamespace(desc=lambda: "no such operator", node_operator=lambda: "Det", node_name=lambda: "turn")

    # -- its configuration

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self.limits[pool.name] = pool_size

    def clear_flag(self, flag: Any) -> None:
        self.cleared.append(flag.name)

    def add_optimization_profile(self, profile: Any) -> int:
        return -1 if self._answer("add_optimization_profile", True) is None else 0

    def create_timing_cache(self, serialized_timing_cache: bytes) -> Any:
        self.tried.append(serialized_timing_cache)
        if serialized_timing_cache not in (b"", TIMINGS):
            self.logger.log(self.logger.Severity.ERROR, "the timing cache cannot be read")
            return None
        return self

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self.timings = cache
        return True

    def serialize(self) -> bytes:
        return TIMINGS

    # -- a profile

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        self.profile = (input, tuple(min), tuple(opt), tuple(max))
