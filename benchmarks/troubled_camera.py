"""A camera at a steady rate to which, now and then, happens what happens to cameras; and the node's only listener."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool, Trigger

from tdnet_ros.msg import FrameLatency
from tdnet_ros.node.transport import CAMERA, MASK, OVERLAY

_PICTURES = 8
_JUMP_NS = 5_000_000_000
_DISCOVERY_S = 5.0


class Listener:
    """Collects what the node says: arrival (steady s) and node_ms of every mask, and its newest diagnostics."""

    def __init__(self) -> None:
        self.times: list[tuple[float, float]] = []
        self.diagnostics: dict[str, str] = {}
        self._context = Context()
        rclpy.init(context=self._context)
        self.node = Node("listener", context=self._context)
        self.node.create_subscription(FrameLatency, "latency", self._on_latency, MASK)
        self.node.create_subscription(Image, "mask", lambda message: None, MASK, raw=True)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.reset = self.node.create_client(Trigger, "segmentation_node/reset")
        self.enable = self.node.create_client(SetBool, "segmentation_node/enable")
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, name="listener")
        self._thread.start()

    def close(self) -> None:
        """Leave the graph."""
        rclpy.try_shutdown(context=self._context)
        self._thread.join()

    @contextmanager
    def viewer(self) -> Iterator[None]:
        """Somebody looks at the overlay and the confidence, for a while."""
        seen = [
            self.node.create_subscription(Image, "overlay", lambda message: None, OVERLAY, raw=True),
            self.node.create_subscription(Image, "confidence", lambda message: None, MASK, raw=True),
        ]
        try:
            yield
        finally:
            for subscription in seen:
                self.node.destroy_subscription(subscription)

    def _spin(self) -> None:
        while self._context.ok():
            try:
                self._executor.spin_once(timeout_sec=0.1)
            except ExternalShutdownException:
                return

    def _on_latency(self, message: FrameLatency) -> None:
        self.times.append((time.monotonic(), message.node_ms))

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        self.diagnostics = {item.key: item.value for item in array.status[0].values}


class TroubledCamera:
    """Sends rgb8 images at ``rate_hz`` on an absolute schedule; ``trouble()`` does the next of its faults."""

    def __init__(self, listener: Listener, width: int, height: int, rate_hz: float) -> None:
        self._listener = listener
        self._period_s = 1 / rate_hz
        # One scene that pans back and forth: pictures without anything in common would each be a cut.
        scene = cv2.resize(np.random.default_rng(1).integers(0, 256, (9, 16, 3), np.uint8), (width + _PICTURES, height))
        steps = [*range(_PICTURES), *range(_PICTURES - 2, 0, -1)]
        self._pictures = [np.ascontiguousarray(scene[:, step : step + width]) for step in steps]
        self.sent = 0
        self.faults: dict[str, int] = {}
        self._due_s = time.monotonic()
        self._open()
        self._turn = 0
        self._kinds: list[Callable[[], None]] = [
            self.pause,
            self.stamp_that_goes_back_a_little,
            self.clock_that_jumps_ahead_and_back,
            self.change_of_size,
            self.change_of_encoding,
            self.data_that_is_too_short,
            self.unknown_encoding,
            self.restart,
            self.second_camera,
            self.burst,
            self.reset,
            self.disabled_for_a_while,
            self.viewer,
        ]

    def close(self) -> None:
        """Leave the graph."""
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def send(self, seconds: float, scale: int = 1) -> None:
        """Undisturbed images for so long, all of them smaller by ``scale``."""
        for _ in range(max(1, round(seconds / self._period_s))):
            self._image(scale=scale)

    def wider(self) -> TroubledCamera:
        """Another camera, whose pictures are twice as wide."""
        height, width, _ = self._pictures[0].shape
        return TroubledCamera(self._listener, 2 * width, height, 1 / self._period_s)

    def trouble(self) -> str:
        """The next fault, in words."""
        kind = self._kinds[self._turn % len(self._kinds)]
        self._turn += 1
        name = kind.__name__.replace("_", " ")
        self.faults[name] = self.faults.get(name, 0) + 1
        kind()
        return name

    # Faults

    def pause(self) -> None:
        self._due_s += 1.5

    def stamp_that_goes_back_a_little(self) -> None:
        self._image(shift_ns=-round(1.5e9 * self._period_s))

    def clock_that_jumps_ahead_and_back(self) -> None:
        for _ in range(5):
            self._image(shift_ns=_JUMP_NS)

    def change_of_size(self) -> None:
        self.send(5 * self._period_s, scale=2)

    def change_of_encoding(self) -> None:
        for _ in range(5):
            self._image(encoding="bgr8")

    def data_that_is_too_short(self) -> None:
        self._image(missing=1)

    def unknown_encoding(self) -> None:
        self._image(encoding="rgb565_by_hand")

    def restart(self) -> None:
        """As a driver that is started anew: its participant leaves the graph, another one joins."""
        self.close()
        self._open()
        self._due_s = time.monotonic() + 1.0

    def second_camera(self) -> None:
        other = self.wider()
        give_up_s = time.monotonic() + _DISCOVERY_S
        while other._publisher.get_subscription_count() == 0 and time.monotonic() < give_up_s:
            self._image()
        other._due_s = self._due_s + self._period_s / 2  # each is the newest image for half a period
        for _ in range(5):
            self._image()
            other._image()
        self.sent += other.sent
        other.close()

    def burst(self) -> None:
        for _ in range(60):
            self._image()
            self._due_s -= 2 / 3 * self._period_s

    def reset(self) -> None:
        self._listener.reset.call_async(Trigger.Request())

    def disabled_for_a_while(self) -> None:
        self._listener.enable.call_async(SetBool.Request(data=False))
        self.send(1.0)
        self._listener.enable.call_async(SetBool.Request(data=True))

    def viewer(self) -> None:
        with self._listener.viewer():
            self.send(2.0)

    def _open(self) -> None:
        self._context = Context()
        rclpy.init(context=self._context)
        self._node = Node(f"camera_{os.getpid()}_{time.monotonic_ns()}", context=self._context)
        self._publisher = self._node.create_publisher(Image, "image", CAMERA)

    def _image(self, shift_ns: int = 0, encoding: str = "rgb8", scale: int = 1, missing: int = 0) -> None:
        """One image at its time, with one thing wrong at most."""
        self._due_s += self._period_s
        late_s = time.monotonic() - self._due_s
        if late_s > self._period_s:
            self._due_s += late_s  # a camera that was held up goes on from there, without a burst of what it missed
        time.sleep(max(0.0, -late_s))
        pixels = self._pictures[self.sent % len(self._pictures)][::scale, ::scale]
        height, width, _ = pixels.shape
        data = pixels.tobytes()
        message: Any = Image(
            height=height, width=width, encoding=encoding, step=3 * width, data=data[: len(data) - missing]
        )
        message.header.frame_id = "camera_optical"
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(time.time_ns() + shift_ns, 1_000_000_000)
        self._publisher.publish(message)
        self.sent += 1
