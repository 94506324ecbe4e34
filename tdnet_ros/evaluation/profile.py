"""Where a frame's time goes: the engine's stages, and the network's modules, by torch's profiler."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from tdnet_ros.errors import SourceError
from tdnet_ros.streaming import Segmenter, StageTimes
from tdnet_ros.video.frame import Frame

#: Before the name of a module in the profiler's records, to tell it from operations.
_MARK = "module: "
#: The rest of a stream's step: checks, the schedule, handing over.
OTHER = "other"


@dataclass(frozen=True)
class ModuleTime:
    """Mean time in a module over all profiled frames, its own modules included, and how often it ran in a frame."""

    name: str
    calls: float
    ms: float


@dataclass(frozen=True)
class Profile:
    """``stages``: milliseconds of every frame by stage, without the profiler. ``modules``: in the order of the network,
    with the profiler's own cost; empty where the engine does not run the modules one by one."""

    frames: int
    stages: dict[str, list[float]]
    modules: list[ModuleTime]


def profile_frames(
    segmenter: Segmenter, frames: Iterable[Frame], count: int, depth: int = 4, trace: Path | None = None
) -> Profile:
    """Segment ``count`` frames for the stages, then as many with the profiler for modules down to ``depth``.

    What comes before them, two rounds of the window, does not count. ``trace`` is a file for chrome://tracing or
    Perfetto. Raises SourceError when there are too few frames.
    """
    warm_up = 2 * segmenter.network.info.subnetworks
    given = list(islice(frames, warm_up + count))
    if len(given) < warm_up + count:
        raise SourceError(f"there are {len(given)} frames, expected at least {warm_up + count}: ask for fewer")
    segmenter.warm_up(given[0].height, given[0].width)
    return Profile(count, _stages(segmenter, given, warm_up), _modules(segmenter, given, warm_up, depth, trace))


def _stages(segmenter: Segmenter, frames: list[Frame], warm_up: int) -> dict[str, list[float]]:
    names = [field.name for field in fields(StageTimes)]
    stages: dict[str, list[float]] = {name: [] for name in (*(name.removesuffix("_ms") for name in names), OTHER)}
    stream = segmenter.stream()
    for index, frame in enumerate(frames):
        started_s = time.perf_counter()
        times = stream.step(frame).times
        passed_ms = 1e3 * (time.perf_counter() - started_s)
        if index >= warm_up:
            for name in names:
                stages[name.removesuffix("_ms")].append(getattr(times, name))
            stages[OTHER].append(passed_ms - times.total_ms)
    return stages


def _modules(
    segmenter: Segmenter, frames: list[Frame], warm_up: int, depth: int, trace: Path | None
) -> list[ModuleTime]:
    activities = [ProfilerActivity.CPU]
    on_cuda = segmenter.runtime.device.type == "cuda"
    if on_cuda:
        activities.append(ProfilerActivity.CUDA)
    stream = segmenter.stream()
    for frame in frames[:warm_up]:
        stream.step(frame)
    with ExitStack() as stack:
        names = _watch(segmenter.network, depth, stack)
        with profile(activities=activities) as profiler:
            for frame in frames[warm_up:]:
                stream.step(frame)
    if trace is not None:
        profiler.export_chrome_trace(str(trace))
    count = len(frames) - warm_up
    found: dict[str, Any] = {event.key: event for event in profiler.key_averages()}
    modules = []
    for name in names:
        event = found.get(_MARK + name)
        if event is not None:
            spent_us = event.device_time_total if on_cuda else event.cpu_time_total
            modules.append(ModuleTime(name, event.count / count, spent_us / 1e3 / count))
    return modules


def _watch(network: nn.Module, depth: int, stack: ExitStack) -> list[str]:
    """Names of the modules with weights down to that depth; until the stack closes the profiler sees them."""
    names = []
    for name, module in network.named_modules():
        if not name or name.count(".") >= depth or next(module.parameters(), None) is None:
            continue
        names.append(name)
        running: list[Any] = []

        def enter(_: nn.Module, __: Any, name: str = name, running: list[Any] = running) -> None:
            running.append(record_function(_MARK + name))
            running[-1].__enter__()

        def leave(_: nn.Module, __: Any, ___: Any, running: list[Any] = running) -> None:
            running.pop().__exit__(None, None, None)

        for handle in (module.register_forward_pre_hook(enter), module.register_forward_hook(leave)):
            stack.callback(handle.remove)
    return names


def format_profile(found: Profile) -> str:
    """As text: a line for each stage, and the tree of modules with their share of the network's stage."""
    lines = [f"{'stage':<34}{'p50':>9}{'p95':>9}  ms"]
    for name, values in found.stages.items():
        known = torch.tensor([value for value in values if value == value], dtype=torch.float64)
        if len(known):
            middle, high = (float(torch.quantile(known, quantile)) for quantile in (0.5, 0.95))
            lines.append(f"  {name:<32}{middle:>9.2f}{high:>9.2f}")
    if not found.modules:
        return "\n".join([*lines, "", "no modules: this runtime does not run them one by one, eager does"])
    whole_ms = sum(module.ms for module in found.modules if _parent(module.name, found) is None)
    lines += ["", f"{'module, with the profiler':<44}{'calls':>7}{'ms':>9}{'share':>8}"]
    for module in found.modules:
        label = f"{'  ' * (module.name.count('.') + 1)}{module.name}"
        lines.append(f"{label:<44}{module.calls:>7.1f}{module.ms:>9.2f}{module.ms / whole_ms:>8.0%}")
    return "\n".join(lines)


def _parent(name: str, found: Profile) -> str | None:
    """The nearest module around it that was seen."""
    seen = {module.name for module in found.modules}
    while "." in name:
        name = name.rpartition(".")[0]
        if name in seen:
            return name
    return None
