"""A segmentation node as a process of its own, and the test as its camera and its only listener."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from running_process import PATIENCE_S, ReservedDomain, RunningProcess, python_environment
from sensor_msgs.msg import CompressedImage, Image

from tdnet_ros.msg import FrameLatency

_HERE = Path(__file__).parent
PERIOD_NS = 100_000_000


class Graph:
    """Publishes images on `image`, collects masks, latencies and diagnostics.

    Stamps are the test's own: they start at the present and go on by PERIOD_NS, however long a test takes.
    """

    def __init__(
        self,
        process: RunningProcess,
        domain: int,
        transport: str = "raw",
        reliability: ReliabilityPolicy = ReliabilityPolicy.RELIABLE,
    ) -> None:
        self.process = process
        self.transport = transport
        self._domain = domain
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.node = rclpy.create_node("camera", context=self._context)
        reliable = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
        self._offered = QoSProfile(depth=10, reliability=reliability)
        self.camera = self.node.create_publisher(*CAMERAS[transport](), self._offered)
        self.masks: list[Image] = []
        self.latencies: list[FrameLatency] = []
        self.statuses: list[dict[str, str]] = []
        self.node.create_subscription(Image, "mask", self.masks.append, reliable)
        self.node.create_subscription(FrameLatency, "latency", self.latencies.append, reliable)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnosed, reliable)
        self.stamp_ns = time.time_ns()
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._running = True
        self._thread.start()

    def _spin(self) -> None:
        while self._running:
            self._executor.spin_once(timeout_sec=0.05)

    def _diagnosed(self, array: DiagnosticArray) -> None:
        status = array.status[0]
        values = {value.key: value.value for value in status.values}
        self.statuses.append({**values, "level": str(status.level[0]), "message": status.message})

    def close(self) -> None:
        """Leave the graph."""
        self._running = False
        self._thread.join()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def restart_camera(self) -> None:
        """Another publisher takes the place of the one that there was."""
        self.node.destroy_publisher(self.camera)
        self.camera = self.node.create_publisher(*CAMERAS[self.transport](), self._offered)
        wait_for(lambda: self.camera.get_subscription_count() == 1, "the node's subscription", self)

    @contextlib.contextmanager
    def silent_node(self) -> Iterator[Any]:
        """A participant of its own that nobody spins."""
        context = Context()
        rclpy.init(context=context, domain_id=self._domain)
        node = rclpy.create_node("sleeper", context=context)
        try:
            yield node
        finally:
            node.destroy_node()
            rclpy.try_shutdown(context=context)

    def next_stamp(self) -> int:
        """The stamp of the next image of a steady stream, in ns."""
        self.stamp_ns += PERIOD_NS
        return self.stamp_ns

    def send(self, message: Any, stamp_ns: int | None = None) -> int:
        """Publish an image or packet with that stamp, by default the stream's next; returns the stamp in ns."""
        stamp_ns = self.next_stamp() if stamp_ns is None else stamp_ns
        header = getattr(message, "header", message)
        stamp = header.timestamp if header is message else header.stamp  # CompressedVideo has no header
        stamp.sec, stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
        header.frame_id = header.frame_id or "camera_optical"
        self.camera.publish(message)
        return stamp_ns

    def mask_of(self, message: Any, stamp_ns: int | None = None) -> Image:
        """Send an image and return its mask."""
        stamp_ns = self.send(message, stamp_ns)
        found: list[Image] = wait_for(
            lambda: [mask for mask in self.masks if stamp_of(mask) == stamp_ns],
            f"the mask of {stamp_ns}",
            self,
        )
        return found[0]

    def latency_of(self, stamp_ns: int) -> FrameLatency:
        """The latency message of a mask."""
        found: list[FrameLatency] = wait_for(
            lambda: [message for message in self.latencies if stamp_of(message) == stamp_ns],
            "the latency",
            self,
        )
        return found[0]

    def status(self, accept: Callable[[dict[str, str]], bool], what: str) -> dict[str, str]:
        """The first diagnostics from now on that are accepted."""
        seen = len(self.statuses)
        found: list[dict[str, str]] = wait_for(
            lambda: [status for status in self.statuses[seen:] if accept(status)], what, self
        )
        return found[0]

    def parameter(self, name: str, value: Any) -> tuple[bool, str]:
        """Set a parameter of the node; success and reason."""
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        result = self.call(SetParameters, "segmentation_node/set_parameters", request).results[0]
        return result.successful, result.reason

    def call(self, service: Any, name: str, request: Any) -> Any:
        """Call a service and return its response."""
        client = self.node.create_client(service, name)
        assert client.wait_for_service(PATIENCE_S), f"no service {name}"
        future = client.call_async(request)
        wait_for(future.done, f"the response of {name}", self)
        self.node.destroy_client(client)
        return future.result()


def greet(graph: Graph) -> None:
    """Send until a first mask comes: a best-effort image may be gone before the node knows of the camera."""

    def answered() -> bool:
        graph.send(jpeg() if graph.transport == "compressed" else image())
        time.sleep(0.1)
        return bool(graph.masks)

    wait_for(answered, "the first mask", graph)
    last_ns = graph.stamp_ns
    wait_for(lambda: any(stamp_of(mask) == last_ns for mask in graph.masks), "the last of the first masks", graph)


def wait_for(condition: Callable[[], Any], what: str, graph: Graph | None = None, timeout_s: float = PATIENCE_S) -> Any:
    """The condition's first true value; fails after the timeout, with what the node said."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.01)
    said = f"; the node said:\n{graph.process.output}" if graph else ""
    raise AssertionError(f"waited {timeout_s} s in vain for {what}{said}")


def stamp_of(message: Any) -> int:
    """header.stamp in ns."""
    return int(message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec)


def picture(index: int = 0, height: int = 90, width: int = 120) -> np.ndarray:
    """RGB (H, W, 3): coarse noise, a little different for every index, so that pictures are of one scene."""
    scene, own = (np.random.default_rng(seed).integers(0, 256, (6, 8, 3)) for seed in (10**6, index))
    mixed = (0.85 * scene + 0.15 * own).astype(np.uint8)
    return np.asarray(cv2.resize(mixed, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def image(index: int = 0, height: int = 90, width: int = 120, encoding: str = "rgb8", padding: int = 0) -> Image:
    """A raw image message; ``padding`` bytes end every row."""
    pixels = picture(index, height, width)
    if encoding == "mono8":
        pixels = pixels[..., :1]
    rows = np.zeros((height, width * pixels.shape[2] + padding), np.uint8)
    rows[:, : rows.shape[1] - padding] = pixels.reshape(height, -1)
    return Image(height=height, width=width, encoding=encoding, step=rows.shape[1], data=rows.tobytes())


def jpeg(index: int = 0, cut: int = 0) -> CompressedImage:
    """A JPEG of the picture, without its last ``cut`` bytes."""
    done, data = cv2.imencode(".jpg", picture(index)[..., ::-1])
    assert done
    return CompressedImage(format="jpeg", data=data.tobytes()[: len(data) - cut])


def _ffmpeg() -> tuple[type, str]:
    from ffmpeg_image_transport_msgs.msg import FFMPEGPacket

    return FFMPEGPacket, "image/ffmpeg"


def _foxglove() -> tuple[type, str]:
    from foxglove_msgs.msg import CompressedVideo

    return CompressedVideo, "image/foxglove"


#: Type and topic of a camera by transport; their packages may be missing.
CAMERAS: dict[str, Callable[[], tuple[type, str]]] = {
    "raw": lambda: (Image, "image"),
    "compressed": lambda: (CompressedImage, "image/compressed"),
    "ffmpeg": _ffmpeg,
    "foxglove": _foxglove,
}


@contextlib.contextmanager
def running_node(
    *parameters: str,
    remappings: Sequence[str] = (),
    announced: str = "segmenting ",
    module: str = "tdnet_ros.node.segmentation_node",
) -> Iterator[tuple[RunningProcess, int]]:
    """Start a node with these `name:=value` parameters and wait for what it prints; the process and its ROS domain."""
    arguments = ["--ros-args"]
    for parameter in (
        "input_height:=96",
        "timeout_s:=1000.0",  # a test that is held up is no lost camera
        *parameters,
    ):
        arguments += ["-p", parameter]
    for remapping in remappings:
        arguments += ["-r", remapping]
    with ReservedDomain() as domain, tempfile.TemporaryDirectory() as folder:
        environment = python_environment(
            {
                "ROS_DOMAIN_ID": str(domain),
                "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": os.pathsep.join(filter(None, (str(_HERE), os.environ.get("PYTHONPATH")))),
            }
        )
        command = [sys.executable, "-m", module, *arguments]
        process = RunningProcess(command, environment, Path(folder))
        try:
            process.wait_for(announced)
            yield process, domain
        finally:
            process.kill()


@contextlib.contextmanager
def segmentation_graph(
    *parameters: str,
    transport: str = "raw",
    reliability: ReliabilityPolicy = ReliabilityPolicy.RELIABLE,
    greeting: Callable[[Graph], None] = greet,
    module: str = "tdnet_ros.node.segmentation_node",
) -> Iterator[Graph]:
    """A node with these parameters, and its camera; both sides know each other."""
    with running_node(*parameters, f"input_transport:={transport}", module=module) as (process, domain):
        graph = Graph(process, domain, transport, reliability)
        try:
            wait_for(lambda: graph.camera.get_subscription_count() == 1, "the node's subscription", graph)
            wait_for(lambda: graph.node.count_publishers("mask") == 1, "the node's mask", graph)
            greeting(graph)
            yield graph
        finally:
            graph.close()
