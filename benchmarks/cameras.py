"""Several cameras in one node beside a node for each camera, on the same machine: total masks per second and ages.

All nodes run from the start and rest while they get no images. Blocks of synchronous images go to the one node and to
the single nodes in turn; the rate may be more than the machine can do, and the newest image wins. Nothing here waits
without an end: for a node to start or to be heard 180 s, and a block is over after its time, whatever has come of it.
``ms/mask`` is the nodes' processor time, over all cores, for each mask, that for images which are dropped included.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image

from benchmarks import machine
from benchmarks.process_watch import Holdings
from tdnet_ros.evaluation.processes import NodeProcess, NodeProcessError, free_domain
from tdnet_ros.msg import FrameLatency
from tdnet_ros.node.transport import CAMERA, MASK, use_shared_memory_profile
from tdnet_ros.streaming import DEFAULT_MODEL

_WAYS = ("one", "single")
_START_TIMEOUT_S = 180.0
_SETTLE_S = 0.5  # of each block; what was under way before it, and the first images of a rested node


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report; 0, or 2 when the machine is busy."""
    options = _parse(arguments)
    watch = machine.begin(options)
    print(
        f"{options.model}, {options.width}x{options.height} rgb8 at {options.rate:g} Hz from each camera, through the "
        f"network at {options.input_height} rows; after a first one {options.blocks} blocks of "
        f"{options.block:g} s a way, in turn\n"
    )
    print(f"{'cameras':<9}{'way':<13}{'masks/s':>8}{'age p50, p95, ms':>20}{'images/step':>13}{'ms/mask':>9}{'MiB':>7}")
    results = []
    for cameras in options.cameras:
        results.append(watch.measure(partial(_measure, options, cameras)))
        for way in _WAYS:
            figures = results[-1][way]
            print(
                f"{cameras:<9}{'one node' if way == 'one' else 'a node each':<13}{figures['masks_per_s']:>8.1f}"
                f"{figures['age_ms']['p50']:>12.0f}{figures['age_ms']['p95']:>8.0f}{figures['images_per_step']:>13.2f}"
                f"{figures['processor_ms_per_mask']:>9.1f}{figures['memory_mib']:>7}",
                flush=True,
            )
    settings = {name: value for name, value in vars(options).items() if name not in ("json", "force", "patience")}
    machine.write_json(options.json, {**watch.circumstances, "settings": settings, "results": results})
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cameras", description=__doc__)
    parser.add_argument("--cameras", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--block", type=float, default=3.0, help="seconds of images to one way")
    parser.add_argument("--blocks", type=int, default=3, help="for each way")
    parser.add_argument("--rate", type=float, default=30.0, help="Hz, of each camera")
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--input-height", type=int, default=360, help="rows at which images go through the network")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--weights", default="")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of every node; 0: one per core")
    machine.add_common_arguments(parser)
    return parser.parse_args(arguments)


def _measure(options: argparse.Namespace, cameras: int) -> dict[str, Any]:
    names = [f"camera{number}" for number in range(cameras)]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        domain = free_domain()
        nodes = _start_nodes(stack, Path(folder), options, names, domain)
        rig = stack.enter_context(_rig(names, domain))
        rig.wait_until_matched()
        for way in _WAYS:
            rig.block(way, options)  # the first steps of each size of batch take longer
        before_s = {way: _processor_s(nodes[way]) for way in _WAYS}
        rig.forget()
        blocks: dict[str, list[_Block]] = {way: [] for way in _WAYS}
        for _ in range(options.blocks):
            for way in _WAYS:
                blocks[way].append(rig.block(way, options))
        results: dict[str, Any] = {"cameras": cameras}
        for way, done in blocks.items():
            seconds = sum(block.seconds for block in done)
            ages_ms = [age_ms for block in done for age_ms in block.ages_ms]
            for node in nodes[way]:
                node.require_running()
            masks = max(1, rig.masks(way))
            results[way] = {
                "masks_per_s": round(len(ages_ms) / seconds, 3),
                "processor_ms_per_mask": round(1e3 * (_processor_s(nodes[way]) - before_s[way]) / masks, 3),
                "images_per_s_and_camera": round(sum(block.images for block in done) / seconds, 3),
                "age_ms": machine.percentiles(ages_ms),
                "images_per_step": rig.images_per_step(way),
                "memory_mib": round(sum(Holdings.of(node.pid).resident_mib for node in nodes[way])),
            }
        return results


def _processor_s(nodes: Sequence[NodeProcess]) -> float:
    """Processor time of all of them so far, over all cores."""
    return sum(Holdings.of(node.pid).processor_s for node in nodes)


def _start_nodes(
    stack: ExitStack, folder: Path, options: argparse.Namespace, names: list[str], domain: int
) -> dict[str, list[NodeProcess]]:
    """The nodes of both ways, ready."""
    environment = {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    shared = {
        "model": options.model,
        "weights": options.weights,
        "device": options.device,
        "threads": options.threads,
        "input_height": options.input_height,
        "max_gap_s": 3600.0,  # the rest between two blocks is no new stream
    }
    nodes = {"one": ("/one", shared | {"cameras": names})}
    nodes |= {f"single_{name}": (f"/single/{name}", shared) for name in names}
    started = []
    for name, (namespace, parameters) in nodes.items():
        module = "tdnet_ros.node.segmentation_node"
        started.append(NodeProcess(name, module, folder, namespace, parameters, {}, environment))
        stack.callback(started[-1].kill)
    for process in started:
        give_up_s = time.monotonic() + _START_TIMEOUT_S
        while "segmenting " not in process.log.read_text(encoding="utf-8", errors="replace"):
            process.require_running()
            if time.monotonic() > give_up_s:
                raise NodeProcessError(f"{process.name} was not ready within {_START_TIMEOUT_S:g} s")
            time.sleep(0.1)
    return {"one": started[:1], "single": started[1:]}


@dataclass(frozen=True)
class _Block:
    """Of the time after the first moments, ``seconds``: ages of masks, and how many images each camera sent."""

    seconds: float
    images: int
    ages_ms: list[float]


class _Rig:
    """All cameras, and a listener to every mask's latency, in the benchmark's own process."""

    def __init__(self, names: list[str], context: Context) -> None:
        self.node = rclpy.create_node("rig", context=context)
        self._cameras = {
            way: [self.node.create_publisher(Image, f"/{way}/{name}/image", CAMERA) for name in names] for way in _WAYS
        }
        self._masks: dict[str, list[tuple[int, float]]] = {way: [] for way in _WAYS}  # stamp in ns, age in ms
        #: What ended the listening before its time.
        self.failure: Exception | None = None
        self._batches: dict[str, list[float]] = {way: [] for way in _WAYS}
        for way in _WAYS:
            for name in names:
                note = partial(self._note, self._masks[way])
                self.node.create_subscription(FrameLatency, f"/{way}/{name}/latency", note, MASK)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnosed, 10)

    def wait_until_matched(self) -> None:
        """Raises NodeProcessError when a node does not hear its camera."""
        give_up_s = time.monotonic() + _START_TIMEOUT_S
        while any(camera.get_subscription_count() == 0 for way in _WAYS for camera in self._cameras[way]):
            if time.monotonic() > give_up_s:
                raise NodeProcessError(f"not every camera was subscribed to within {_START_TIMEOUT_S:g} s")
            time.sleep(0.05)

    def block(self, way: str, options: argparse.Namespace) -> _Block:
        """Send a block of images, as many as the time allows, and listen to what comes of them."""
        height, width = options.height, options.width
        pixels = np.random.default_rng(1).integers(0, 256, height * width * 3, np.uint8)
        message = Image(height=height, width=width, encoding="rgb8", step=3 * width, data=pixels.tobytes())
        begin_ns, start_s = time.time_ns(), time.monotonic()
        sent_ns = []
        for index in range(round(options.block * options.rate)):
            time.sleep(max(0.0, start_s + index / options.rate - time.monotonic()))
            if time.monotonic() > start_s + options.block:
                break
            stamp_ns = time.time_ns()
            sent_ns.append(stamp_ns)
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
            for camera in self._cameras[way]:
                camera.publish(message)
        time.sleep(max(0.0, start_s + options.block - time.monotonic()))
        end_ns = time.time_ns()
        time.sleep(1.0)  # what is under way arrives, and the next way finds a machine at rest
        if self.failure is not None:
            raise self.failure
        first_ns = begin_ns + round(_SETTLE_S * 1e9)
        # A mask counts in the block in which it was out.
        out = [(stamp_ns + 1e6 * age_ms, age_ms) for stamp_ns, age_ms in self._masks[way] if stamp_ns >= begin_ns]
        ages_ms = [age_ms for out_ns, age_ms in out if first_ns <= out_ns < end_ns]
        return _Block((end_ns - first_ns) / 1e9, sum(stamp_ns >= first_ns for stamp_ns in sent_ns), ages_ms)

    def forget(self) -> None:
        """What was heard so far does not count."""
        for heard in (*self._masks.values(), *self._batches.values()):
            heard.clear()

    def masks(self, way: str) -> int:
        """How many masks there were in all."""
        return len(self._masks[way])

    def images_per_step(self, way: str) -> float:
        """Mean over the blocks, by the diagnostics; NaN when none came."""
        values = self._batches[way]
        return round(float(np.mean(values)), 3) if values else float("nan")

    def _note(self, masks: list[tuple[int, float]], message: FrameLatency) -> None:
        stamp = message.header.stamp
        masks.append((stamp.sec * 1_000_000_000 + stamp.nanosec, message.age_ms))

    def _diagnosed(self, array: DiagnosticArray) -> None:
        for status in array.status:
            way, _, node = status.name.partition("/")
            if not node or way not in self._batches:
                continue  # of somebody else's
            values = {value.key: value.value for value in status.values}
            batch = float(values["images per step"])
            if batch == batch:
                self._batches[way].append(batch)


@contextmanager
def _rig(names: list[str], domain: int) -> Iterator[_Rig]:
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    rig = _Rig(names, context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(rig.node)
    stopping = threading.Event()

    def spin() -> None:
        try:
            while not stopping.is_set():
                executor.spin_once(timeout_sec=0.05)
        except Exception as error:
            rig.failure = error

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        yield rig
    finally:
        stopping.set()
        thread.join()
        rig.node.destroy_node()
        rclpy.try_shutdown(context=context)


if __name__ == "__main__":
    use_shared_memory_profile()
    machine.run(main)
