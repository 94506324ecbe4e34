"""Writes masks and latency messages into a rosbag2, byte for byte as they arrived."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import MessageInfo, Subscription
from sensor_msgs.msg import CompressedImage, Image

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.evaluation.bag_queue import BagQueue
from tdnet_ros.evaluation.bags import DIAGNOSTICS_TYPE, LATENCY_TYPE, STORAGES, BagWriter
from tdnet_ros.msg import FrameLatency
from tdnet_ros.node.process import fix_settings, run_task
from tdnet_ros.node.settings import declare_settings, setting
from tdnet_ros.video.bag_source import stamp_of
from tdnet_ros.video.messages.types import COMPRESSED_TYPE, IMAGE_TYPE


@dataclass(frozen=True)
class Kind:
    """The type behind a topic's name, and whether it is asked for reliably.

    Results are wanted without a gap; a camera must not be slowed down because somebody records it.
    """

    message_type: Any
    type_name: str
    reliable: bool


_KINDS = {
    "mask": Kind(Image, IMAGE_TYPE, True),
    "confidence": Kind(Image, IMAGE_TYPE, True),
    "latency": Kind(FrameLatency, LATENCY_TYPE, True),
    "diagnostics": Kind(DiagnosticArray, DIAGNOSTICS_TYPE, True),
    "overlay": Kind(Image, IMAGE_TYPE, False),
    "image": Kind(Image, IMAGE_TYPE, False),
    "compressed": Kind(CompressedImage, COMPRESSED_TYPE, False),
}
#: Messages that the middleware holds while the interpreter is busy, about 50 MB of 720p masks.
_DEPTH = 50
_STATUS_PERIOD_S = 0.1
_SAY_S = 10.0  # between repetitions of a warning


@dataclass(frozen=True)
class RecorderSettings:
    """The recorder's ROS parameters."""

    bag: str = setting("", "Directory to create for the bag.")
    storage: str = setting("mcap", "Format of the bag's file.", choices=tuple(STORAGES))
    overwrite: bool = setting(False, "Replace a bag that is there already.")
    topics: list[str] = setting(  # noqa: RUF009 - a field, made anew for every instance
        ["mask", "latency"],
        f"Topics to record. The last part of a name says the type: {', '.join(_KINDS)}.",
    )
    queue_mb: int = setting(256, "Memory for messages that wait for the disk; the rest is dropped and counted.", 1)
    status_file: str = setting("", "JSON file that tells, ten times a second, what is matched and recorded.")


class Recorder:
    """Subscribes without looking into the messages and hands them to the thread that writes the bag."""

    def __init__(self) -> None:
        self.node = Node("recorder")
        self._settings = declare_settings(self.node, RecorderSettings)
        fix_settings(self.node, self._settings)
        if not self._settings.bag:
            raise ConfigurationError("parameter 'bag' is empty, expected the directory to create for the bag")
        kinds = {self.node.resolve_topic_name(name): _kind_of(name) for name in self._settings.topics}
        if not kinds:
            raise ConfigurationError("parameter 'topics' is empty, expected at least one topic")
        self._queue = BagQueue(partial(self._open_bag, kinds), self._settings.queue_mb * 1_000_000)
        self._last_received_ns = 0
        self._last_stamps = dict.fromkeys(kinds, 0)
        self._subscriptions = {name: self._subscribe(name, kind) for name, kind in kinds.items()}
        self.node.create_timer(_STATUS_PERIOD_S, self._write_status)
        self.node.get_logger().info(f"recording {', '.join(kinds)} to {self._settings.bag}")

    def _open_bag(self, kinds: dict[str, Kind]) -> BagWriter:
        writer = BagWriter(Path(self._settings.bag), self._settings.storage, self._settings.overwrite)
        for name, kind in kinds.items():
            writer.add_topic(name, kind.type_name)
        return writer

    def _subscribe(self, topic: str, kind: Kind) -> Subscription:
        reliability = QoSReliabilityPolicy.RELIABLE if kind.reliable else QoSReliabilityPolicy.BEST_EFFORT
        return self.node.create_subscription(
            kind.message_type,
            topic,
            partial(self._receive, topic),
            QoSProfile(depth=_DEPTH, reliability=reliability),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            raw=True,
        )

    def _receive(self, topic: str, cdr: bytes, info: MessageInfo) -> None:
        # The middleware's own time of arrival: free of the wait for this callback. What was sent again after a loss
        # is delivered in order, but arrived after its successors; readers sort by time, so order comes first.
        received_ns = info["received_timestamp"] or self.node.get_clock().now().nanoseconds
        self._last_received_ns = max(received_ns, self._last_received_ns + 1)
        self._queue.put(topic, self._last_received_ns, cdr)
        self._last_stamps[topic] = stamp_of(cdr)

    @property
    def finished(self) -> bool:
        """True once writing has failed: recording on would only pretend."""
        return self._queue.failure is not None

    def close(self) -> None:
        """Write what is queued and complete the bag; raises BagWriteError when it could not be written."""
        try:
            self._queue.close()
        finally:
            self._write_status()
            counts = ", ".join(f"{count} on {topic}" for topic, count in self._queue.written.items())
            self.node.get_logger().info(
                f"recorded {counts}; dropped for want of queue space: {self._queue.dropped.total()}"
            )

    def _write_status(self) -> None:
        if not self._settings.status_file:
            return
        written = self._queue.written
        status = {
            topic: {
                "publishers": subscription.get_publisher_count(),
                "written": written[topic],
                "dropped": self._queue.dropped[topic],
                "last_stamp_ns": self._last_stamps[topic],
            }
            for topic, subscription in self._subscriptions.items()
        }
        # Replaced in one step: whoever reads it never sees half a file.
        partial_file = Path(f"{self._settings.status_file}.partial")
        try:
            partial_file.write_text(json.dumps(status), encoding="utf-8")
            partial_file.replace(self._settings.status_file)
        except OSError as error:  # the disk may be full: the bag's own error is the one to end with
            self.node.get_logger().warning(f"status_file cannot be written: {error}", throttle_duration_sec=_SAY_S)


def _kind_of(topic: str) -> Kind:
    ending = topic.rsplit("/", 1)[-1]
    if ending not in _KINDS:
        raise ConfigurationError(f"parameter 'topics' names '{topic}', expected a name ending in one of {list(_KINDS)}")
    return _KINDS[ending]


def main() -> int:
    """Record until SIGINT or SIGTERM; the exit code."""
    return run_task(Recorder, "recorder")


if __name__ == "__main__":
    sys.exit(main())
