"""The node for an hour at a camera's rate, with a fault every 20 s: does it keep its memory, its threads, its pace?

The node is a process of its own, on the middleware like any other. Its memory, threads and file descriptors are read
from /proc every few seconds. Before the run it segments pictures of every size that will come, and the first five
minutes are warm-up: by then every fault has happened once. What the node holds is the median of the minute after them
and of the last one; its pace is the median time that a frame spends in it, of the ten minutes after them and of the
last ten. Of a run of less than ten minutes half is warm-up; of one of less than 25 the two parts whose pace is compared
are halves of the rest. Pace is judged only when others used little of the machine in both of them.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.process_watch import Holdings
from tdnet_ros.errors import TdnetRosError
from tdnet_ros.evaluation.machine_load import BUSY_LIMIT, ProcessorTime
from tdnet_ros.evaluation.processes import NodeProcess, NodeProcessError, free_domain

GROWTH_LIMIT_MIB = 5.0
LATENCY_LIMIT = 0.10
_WARM_UP_S, _HELD_S, _PACE_S = 300.0, 60.0, 600.0
_WATCH_S = 5.0
_MASKS_OF_EACH_SIZE = 5
_START_TIMEOUT_S = 180.0
_REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Sample:
    """What the node held, and what the machine had worked, so many seconds after the start."""

    at_s: float
    holds: Holdings
    machine: ProcessorTime


@dataclass(frozen=True)
class Line:
    """One line of the result: the figure at first and at last, and whether the limit is kept; None: not judged."""

    name: str
    first: float
    last: float
    limit: str
    holds: bool | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and report; 0 when all limits are kept, else 1."""
    options = _parse(arguments)
    os.environ.update({"ROS_DOMAIN_ID": str(free_domain()), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"})
    from tdnet_ros.node.transport import use_shared_memory_profile

    use_shared_memory_profile()
    before = ProcessorTime.now()
    print(f"{options.minutes:g} min of {options.width}x{options.height} rgb8 at {options.rate:g} Hz", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        found = _soak(options, Path(folder))
    share = ProcessorTime.now().foreign_share_since(before)  # the node has ended, its time is ours
    lines = judge(found["samples"], found["times"], 60 * options.minutes)
    _print(found, lines, share)
    machine.write_json(
        options.json,
        {
            "machine": machine.describe(),
            "settings": {name: value for name, value in vars(options).items() if name != "json"},
            "foreign_share": round(share, 3),
            **{name: value for name, value in found.items() if name not in ("samples", "times")},
            "samples": [
                {"at_s": round(sample.at_s, 1), **asdict(sample.holds), "machine": asdict(sample.machine)}
                for sample in found["samples"]
            ],
            "median_node_ms_by_minute": [round(ms, 1) for ms in medians(found["times"], 60.0)],
            "lines": [asdict(line) for line in lines],
        },
    )
    return machine.MISSED if any(line.holds is False for line in lines) else 0


def judge(samples: Sequence[Sample], times: Sequence[tuple[float, float]], length_s: float) -> list[Line]:
    """The limits. ``times``: (s after the start, node_ms) of every mask.

    Pace is judged when others used little of the machine in both of the parts that are compared.
    """
    warm_s = min(_WARM_UP_S, length_s / 2)
    pace_s = min(_PACE_S, (length_s - warm_s) / 2)
    held_s = min(_HELD_S, pace_s)
    first = [sample.holds for sample in samples if warm_s <= sample.at_s < warm_s + held_s]
    last = [sample.holds for sample in samples if sample.at_s >= length_s - held_s]
    lines = []
    for name, label, limit in (
        ("resident_mib", "resident memory (MiB)", GROWTH_LIMIT_MIB),
        ("threads", "threads", 0),
        ("descriptors", "file descriptors", 0),
    ):
        begin, end = (_median([getattr(holds, name) for holds in part]) for part in (first, last))
        lines.append(Line(label, begin, end, f"+{limit:g}", end - begin <= limit))
    compared = (warm_s, warm_s + pace_s), (length_s - pace_s, length_s)
    begin_ms, end_ms = (_median([ms for at_s, ms in times if low <= at_s < high]) for low, high in compared)
    steady = abs(end_ms / begin_ms - 1) <= LATENCY_LIMIT
    shares = [foreign_share([sample for sample in samples if low <= sample.at_s < high]) for low, high in compared]
    verdict = steady if all(share <= BUSY_LIMIT for share in shares) else None
    lines.append(Line("median node_ms", begin_ms, end_ms, f"{LATENCY_LIMIT:.0%}", verdict))
    return lines


def foreign_share(samples: Sequence[Sample]) -> float:
    """Share of the machine that others than camera and node used between the first and the last of the samples."""
    if not samples:
        return math.nan
    first, last = samples[0], samples[-1]
    return last.machine.foreign_share_since(first.machine, last.holds.processor_s - first.holds.processor_s)


def medians(times: Sequence[tuple[float, float]], part_s: float) -> list[float]:
    """The median of each whole part of the run, from its start on: when the pace has changed, and for how long."""
    parts = int(max((at_s for at_s, _ in times), default=0.0) / part_s)
    return [_median([ms for at_s, ms in times if part == int(at_s / part_s)]) for part in range(parts)]


def _median(values: Sequence[float]) -> float:
    """NaN without values, which keeps no limit."""
    return float(np.median(values)) if values else math.nan


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=float(os.environ.get("SOAK_MINUTES", "60")))
    parser.add_argument("--rate", type=float, default=15.0, help="Hz")
    parser.add_argument("--width", type=int, default=480)
    parser.add_argument("--height", type=int, default=360)
    parser.add_argument("--fault-period", type=float, default=20.0, help="seconds from one fault to the next")
    parser.add_argument("--input-height", type=int, default=0, help="the node's parameter")
    parser.add_argument("--model", default="auto", help="the node's parameter")
    parser.add_argument("--device", default="auto", help="the node's parameter")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured there")
    return parser.parse_args(arguments)


def _soak(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    from benchmarks.troubled_camera import Listener, TroubledCamera

    parameters = {"model": options.model, "device": options.device, "input_height": options.input_height}
    paths = os.pathsep.join(filter(None, (str(_REPOSITORY), os.environ.get("PYTHONPATH"))))
    module = "tdnet_ros.node.segmentation_node"
    node = NodeProcess("segmentation_node", module, folder, "/", parameters, {}, {"PYTHONPATH": paths})
    listener = Listener()
    try:
        camera = TroubledCamera(listener, options.width, options.height, options.rate)
        _meet_every_size(node, listener, camera)
        start_s, sent_before = time.monotonic(), camera.sent
        samples: list[Sample] = []
        first_faults_s: dict[str, float] = {}
        next_fault_s, end_s = start_s + options.fault_period, start_s + 60 * options.minutes
        processor_s = Holdings.of(node.pid).processor_s
        while (now_s := time.monotonic()) < end_s:
            node.require_running()
            camera.send(min(_WATCH_S, options.fault_period, end_s - now_s))
            samples.append(Sample(time.monotonic() - start_s, Holdings.of(node.pid), ProcessorTime.now()))
            if time.monotonic() >= next_fault_s:
                first_faults_s.setdefault(camera.trouble(), round(time.monotonic() - start_s, 1))
                next_fault_s += options.fault_period
        used_s = samples[-1].holds.processor_s - processor_s
        times = [(at_s - start_s, ms) for at_s, ms in listener.times if at_s >= start_s]
        stopping_s = time.monotonic()
        node.interrupt()
        return {
            "samples": samples,
            "times": times,
            "faults": camera.faults,
            "first_faults_s": first_faults_s,
            "images_sent": camera.sent - sent_before,
            "masks": len(times),
            "longest_without_mask_s": round(max(np.diff([at_s for at_s, _ in times])), 2),
            "diagnostics": listener.diagnostics,
            "stop_s": round(time.monotonic() - stopping_s, 2),
            "node_share": used_s / (time.monotonic() - start_s) / (os.cpu_count() or 1),
        }
    except NodeProcessError:
        print((folder / "segmentation_node.log").read_text(encoding="utf-8", errors="replace"), file=sys.stderr)
        raise
    finally:
        node.kill()
        listener.close()


def _meet_every_size(node: NodeProcess, listener: Any, camera: Any) -> None:
    """Pictures of each size alone: among others all may give way to newer ones, and the size's memory come later."""
    _wait_for_masks(node, listener, camera)
    _wait_for_masks(node, listener, camera, scale=2)
    other = camera.wider()
    _wait_for_masks(node, listener, other)
    other.close()


def _wait_for_masks(node: NodeProcess, listener: Any, camera: Any, scale: int = 1) -> None:
    enough = len(listener.times) + _MASKS_OF_EACH_SIZE
    give_up_s = time.monotonic() + _START_TIMEOUT_S
    while len(listener.times) < enough:
        node.require_running()
        if time.monotonic() > give_up_s:
            raise NodeProcessError(f"the node gave too few masks within {_START_TIMEOUT_S:g} s")
        camera.send(0.2, scale)


def _print(found: dict[str, Any], lines: Sequence[Line], share: float) -> None:
    print(f"\n{'':<24}{'first':>10}{'last':>10}{'limit':>8}")
    for line in lines:
        verdict = {True: "holds", False: "DOES NOT HOLD", None: "not judged: others were at work"}[line.holds]
        print(f"{line.name:<24}{line.first:>10.1f}{line.last:>10.1f}{line.limit:>8}  {verdict}")
    print("median node_ms of every five minutes: " + " ".join(f"{ms:.0f}" for ms in medians(found["times"], 300.0)))
    shared = [sample.holds.shared_mib for sample in found["samples"]]
    print(f"\nof the memory, shared segments: {shared[0]:.1f} MiB at first, {shared[-1]:.1f} at last")
    print(
        f"{found['images_sent']} images sent, {found['masks']} masks; longest time without a mask "
        f"{found['longest_without_mask_s']:g} s; the node ended {found['stop_s']:g} s after SIGINT with code 0"
    )
    print(f"others used {share:.0%} of the machine; the node {found['node_share']:.0%}")
    latest = max(found["first_faults_s"].values(), default=math.nan)
    print(f"{len(found['first_faults_s'])} kinds of fault, each of which had happened once after {latest:g} s")
    print("faults: " + ", ".join(f"{count} x {name}" for name, count in found["faults"].items()))
    counters = (
        "images rejected",
        "stale stamps",
        "failures",
        "resets",
        "dropped for a newer image",
        "lost before arrival",
    )
    print("counted by the node: " + ", ".join(f"{name} {found['diagnostics'].get(name)}" for name in counters))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TdnetRosError as error:
        sys.exit(f"error: {error}")
