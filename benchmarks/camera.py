"""Process: a camera that sends to several topics in turn, a block to each, and notes when it sent what."""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Image

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.node.process import run_task
from tdnet_ros.node.settings import declare_settings, setting
from tdnet_ros.node.transport import CAMERA

_MATCH_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class CameraSettings:
    """The camera's ROS parameters."""

    topics: list[str] = setting(  # noqa: RUF009 - a field, made anew for every instance
        ["image"], "Each gets a block of images in turn."
    )
    width: int = setting(1280, "px", 1)
    height: int = setting(720, "px", 1)
    rate_hz: float = setting(30.0, "Images per second.", 0.1)
    block_s: float = setting(2.0, "Length of a block.", 0.01)
    blocks: int = setting(10, "Blocks for each topic.", 1)
    warm_up_s: float = setting(1.0, "Length of a first block for each topic, which does not count.", 0.0)
    rest_s: float = setting(1.5, "Pause after the warm-up and at the end.", 0.0)
    sent_log: str = setting("", "JSON file to write at the end: every image sent, with its times.")


class BlockCamera:
    """Publishes from a thread of its own on an absolute schedule. Every image has the same pixels and its own stamp.

    Times in the log are CLOCK_MONOTONIC, which all processes of a machine share.
    """

    def __init__(self) -> None:
        self.node = Node("block_camera")
        self._settings = settings = declare_settings(self.node, CameraSettings)
        self._publishers = {name: self.node.create_publisher(Image, name, CAMERA) for name in settings.topics}
        pixels = np.random.default_rng(1).integers(0, 256, settings.height * settings.width * 3, np.uint8)
        self._message = Image(
            height=settings.height,
            width=settings.width,
            encoding="rgb8",
            step=3 * settings.width,
            data=pixels.tobytes(),
        )
        self._message.header.frame_id = "camera_optical"
        self._sent: list[dict[str, object]] = []
        self._error: ConfigurationError | None = None
        self._stopping = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="camera")
        self._thread.start()

    @property
    def finished(self) -> bool:
        """True after the last block and the pause behind it."""
        return self._done.is_set()

    def close(self) -> None:
        """Stop and write the log; raises ConfigurationError when nobody listened."""
        self._stopping.set()
        self._thread.join()
        if self._error:
            raise self._error
        Path(self._settings.sent_log).write_text(json.dumps(self._sent), encoding="utf-8")

    def _run(self) -> None:
        settings = self._settings
        try:
            self._wait_for_subscribers()
            for topic in settings.topics:
                self._send_block(topic, settings.warm_up_s, block=-1)
            self._stopping.wait(settings.rest_s)
            for block in range(settings.blocks):
                for topic in settings.topics:
                    self._send_block(topic, settings.block_s, block)
            self._stopping.wait(settings.rest_s)
        except ConfigurationError as error:
            self._error = error
        finally:
            self._done.set()

    def _wait_for_subscribers(self) -> None:
        give_up_s = time.monotonic() + _MATCH_TIMEOUT_S
        while missing := [name for name, sender in self._publishers.items() if not sender.get_subscription_count()]:
            if time.monotonic() > give_up_s:
                raise ConfigurationError(f"nobody listens to {missing} after {_MATCH_TIMEOUT_S:g} s")
            if self._stopping.wait(0.02):
                return

    def _send_block(self, topic: str, length_s: float, block: int) -> None:
        period_s = 1 / self._settings.rate_hz
        start_s = time.monotonic()
        for index in range(round(length_s / period_s)):
            time.sleep(max(0.0, start_s + index * period_s - time.monotonic()))
            if self._stopping.is_set():
                return
            self._send(topic, block, index)
        # The next block's first image is due one period after this one's last.
        time.sleep(max(0.0, start_s + length_s - time.monotonic()))

    def _send(self, topic: str, block: int, index: int) -> None:
        stamp_ns = time.time_ns()
        stamp = self._message.header.stamp
        stamp.sec, stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
        sent_ns = time.monotonic_ns()
        self._publishers[topic].publish(self._message)
        publish_ms = (time.monotonic_ns() - sent_ns) / 1e6
        self._sent.append(
            {
                "topic": topic,
                "block": block,
                "index": index,
                "stamp_ns": stamp_ns,
                "sent_ns": sent_ns,
                "publish_ms": publish_ms,
            }
        )


def main() -> int:
    """Send all blocks; the exit code."""
    return run_task(BlockCamera, "block_camera")


if __name__ == "__main__":
    sys.exit(main())
