"""Process: notes when which message arrived, by topic and stamp, and what the node says of itself."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import Image

from tdnet_ros.msg import FrameLatency
from tdnet_ros.node.process import run_task
from tdnet_ros.node.settings import declare_settings, setting
from tdnet_ros.node.transport import IMAGE_INPUT, MASK
from tdnet_ros.video.messages.cdr import peek_header

STAGES = (
    "receive_ms",
    "decode_ms",
    "motion_ms",
    "preprocess_ms",
    "network_ms",
    "postprocess_ms",
    "publish_ms",
    "node_ms",
)


@dataclass(frozen=True)
class ReceiverSettings:
    """The receiver's ROS parameters."""

    images: list[str] = setting(  # noqa: RUF009 - a field, made anew for every instance
        ["image"], "Topics of images, received as the node receives its input."
    )
    node: bool = setting(False, "Whether to listen to a node's mask, latency and diagnostics as well.")
    arrival_log: str = setting("", "JSON file to write at the end.")


class Receiver:
    """Collects in memory until it is told to stop. Times are CLOCK_MONOTONIC."""

    finished = False

    def __init__(self) -> None:
        self.node = Node("receiver")
        self._settings = settings = declare_settings(self.node, ReceiverSettings)
        self._arrivals: dict[str, list[tuple[int, int]]] = {}
        self._latencies: list[dict[str, float]] = []
        self._diagnostics: list[dict[str, Any]] = []
        for topic in settings.images:
            self.node.create_subscription(Image, topic, self._arrival(topic), IMAGE_INPUT, raw=True)
        if settings.node:
            self.node.create_subscription(Image, "mask", self._arrival("mask"), MASK, raw=True)
            self.node.create_subscription(FrameLatency, "latency", self._on_latency, MASK)
            self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def close(self) -> None:
        """Write the log."""
        log = {"arrivals": self._arrivals, "latencies": self._latencies, "diagnostics": self._diagnostics}
        Path(self._settings.arrival_log).write_text(json.dumps(log), encoding="utf-8")

    def _arrival(self, topic: str) -> Callable[[bytes], None]:
        return partial(self._on_message, self._arrivals.setdefault(topic, []))

    def _on_message(self, arrivals: list[tuple[int, int]], message: bytes) -> None:
        now_ns = time.monotonic_ns()
        sec, nanosec, _ = peek_header(message)
        arrivals.append((sec * 1_000_000_000 + nanosec, now_ns))

    def _on_latency(self, message: FrameLatency) -> None:
        stamp = message.header.stamp
        stages = {name: getattr(message, name) for name in STAGES}
        self._latencies.append({"stamp_ns": stamp.sec * 1_000_000_000 + stamp.nanosec, **stages})

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        values = {item.key: item.value for status in array.status for item in status.values}
        self._diagnostics.append({"arrived_ns": time.monotonic_ns(), "values": values})


def main() -> int:
    """Receive until told to stop; the exit code."""
    return run_task(Receiver, "receiver")


if __name__ == "__main__":
    sys.exit(main())
