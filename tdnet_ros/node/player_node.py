"""Plays a video file, an image folder or a rosbag2 as a camera, at the source's own rate."""

from __future__ import annotations

import json
import sys
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.time import Time
from rosgraph_msgs.msg import Clock

from tdnet_ros.errors import ConfigurationError, SourceError
from tdnet_ros.node.packet_playback import PACKET_TRANSPORTS, PacketCamera
from tdnet_ros.node.playback import Camera, Outgoing
from tdnet_ros.node.process import fix_settings, run_task
from tdnet_ros.node.settings import declare_settings, setting
from tdnet_ros.node.transport import CAMERA, VIDEO_PACKETS
from tdnet_ros.video.read_ahead import read_ahead
from tdnet_ros.video.sources import open_source


@dataclass(frozen=True)
class PlayerSettings:
    """The player's ROS parameters."""

    source: str = setting("", "Video file, folder of PNG or JPEG pictures, or rosbag2 (directory, .mcap, .db3).")
    topic: str = setting("", "Image topic of a bag that has several.")
    transport: str = setting(
        "auto",
        "raw: Image on 'image'; compressed: JPEG, PNG on 'image/compressed'; auto: as in the bag, else raw. A video's "
        "own packets, not encoded anew: ffmpeg: FFMPEGPacket on 'image/ffmpeg'; foxglove: CompressedVideo on "
        "'image/foxglove'; compressed_video: CompressedImage on 'image/compressed'.",
        choices=("auto", "raw", "compressed", *PACKET_TRANSPORTS),
    )
    encoding: str = setting("rgb8", "Channel order of raw images of videos and folders.", choices=("rgb8", "bgr8"))
    jpeg_quality: int = setting(90, "JPEG quality of images that are compressed here.", 1, 100)
    frame_id: str = setting("camera", "header.frame_id of videos and folders; a bag keeps its own.")
    rate: float = setting(1.0, "Speed: 2.0 plays twice as fast.", 0.001)
    rate_hz: float = setting(0.0, "Frames per second instead of the source's own times; 0: its own.", 0.0)
    duration_s: float = setting(0.0, "Plays this much of the source's own time; 0: all of it.", 0.0)
    loop: bool = setting(False, "Starts again at the end, until stopped.")
    stamps: str = setting(
        "now",
        "now: the moment of publishing; original: keeps a bag's own, and gives videos and folders, "
        "which have none, the start of the playback plus the place in the source.",
        choices=("now", "original"),
    )
    clock_hz: float = setting(0.0, "Rate of /clock, for nodes with use_sim_time; 0: no clock.", 0.0)
    wait_for_subscribers: int = setting(1, "Subscribers that must be there before the first frame; 0: none.", 0)
    wait_timeout_s: float = setting(0.0, "Gives up after so long, with exit code 1; 0: never.", 0.0)
    start_delay_s: float = setting(0.5, "Pause before the first frame, for subscribers to see the publisher.", 0.0)
    sent_log: str = setting("", "JSON file to write at the end: every frame sent, with its times.")


@dataclass(frozen=True)
class SentFrame:
    """One published frame: its place in the source, its header stamp, and publish() on the steady clock."""

    index: int
    source_stamp_ns: int
    stamp_ns: int
    steady_ns: int
    publish_ms: float
    late_ms: float


class Player:
    """Publishes from a thread of its own on an absolute schedule; another thread reads and decodes ahead."""

    def __init__(self) -> None:
        self.node = Node("player")
        self._settings = settings = declare_settings(self.node, PlayerSettings)
        fix_settings(self.node, settings)
        if not settings.source:
            raise ConfigurationError("parameter 'source' is empty, expected a video file, image folder or bag")
        self._source = open_source(settings.source, settings.rate_hz or None, settings.topic or None)
        self._camera: Camera | PacketCamera
        if settings.transport in PACKET_TRANSPORTS:
            self._camera = PacketCamera(self._source, settings.transport, settings.frame_id, settings.rate_hz)
        else:
            self._camera = Camera(
                self._source, settings.transport, settings.encoding, settings.frame_id, settings.jpeg_quality
            )
        self._publisher = self.node.create_publisher(
            self._camera.message_type,
            self.node.resolve_topic_name("image") + self._camera.suffix,
            VIDEO_PACKETS if settings.transport in PACKET_TRANSPORTS else CAMERA,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self._clock = self.node.create_publisher(Clock, "/clock", 1) if settings.clock_hz else None
        self._sent: list[SentFrame] = []
        self._first: SentFrame | None = None
        self._last: SentFrame | None = None
        self._count, self._latest_ms = 0, 0.0
        self._error: Exception | None = None
        self._stopping = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._play, name="playback")
        self._thread.start()

    @property
    def finished(self) -> bool:
        """True after the last frame, or after an error."""
        return self._done.is_set()

    def close(self) -> None:
        """Stop playing, say what was sent, write the log of sent frames; raises what ended the playback."""
        self._stopping.set()
        self._thread.join()
        if self._settings.sent_log:
            text = json.dumps({"source": self._source.name, "frames": [vars(frame) for frame in self._sent]})
            try:
                Path(self._settings.sent_log).write_text(text, encoding="utf-8")
            except OSError as error:
                raise SourceError(f"sent_log {self._settings.sent_log} cannot be written: {error}") from error
        if self._error:
            raise self._error
        self.node.get_logger().info(self._summary())

    def _summary(self) -> str:
        text = f"sent {self._count} frames"
        if self._first is None or self._last is None or self._count < 2:
            return text
        seconds = (self._last.steady_ns - self._first.steady_ns) / 1e9
        rate_hz = (self._count - 1) / seconds
        return f"{text} in {seconds:.2f} s ({rate_hz:.2f} Hz), at most {self._latest_ms:.1f} ms late"

    def _play(self) -> None:
        try:
            if self._wait_for_subscribers():
                width, height = self._source.size
                self.node.get_logger().info(
                    f"playing {self._source.name}, {width}x{height} at {self._source.rate_hz:.2f} Hz, "
                    f"on {self._publisher.topic_name}"
                )
                self._publish_all()
                # What the last frame needs to leave this process before its memory goes.
                self._publisher.wait_for_all_acked(Duration(seconds=1))
                self._stopping.wait(0.2)
        except Exception as error:  # raised where the exit code is made
            self._error = error
        finally:
            self._done.set()

    def _wait_for_subscribers(self) -> bool:
        wanted, topic = self._settings.wait_for_subscribers, self._publisher.topic_name
        give_up_s = time.monotonic() + (self._settings.wait_timeout_s or float("inf"))
        if wanted and self._publisher.get_subscription_count() < wanted:
            self.node.get_logger().info(f"waiting for {wanted} subscriber(s) on {topic}")
        while self._publisher.get_subscription_count() < wanted and not self._stopping.is_set():
            if time.monotonic() > give_up_s:
                raise ConfigurationError(
                    f"{self._publisher.get_subscription_count()} subscribers on {topic} after "
                    f"{self._settings.wait_timeout_s:g} s, expected {wanted} (parameter wait_for_subscribers)"
                )
            time.sleep(0.02)
        return not self._stopping.wait(self._settings.start_delay_s)

    def _publish_all(self) -> None:
        rate, interval_ns = self._settings.rate, 1e9 / self._source.rate_hz / self._settings.rate
        ahead = read_ahead(self._camera.images(self._settings.duration_s, self._settings.loop))
        with closing(ahead):
            for number, outgoing in enumerate(ahead):
                if number == 0:  # time runs from the first image that is ready, not from the wait for it
                    start_ns, wall_start_ns = time.monotonic_ns(), self.node.get_clock().now().nanoseconds
                due_ns = start_ns + round(outgoing.time_ns / rate)
                original_ns = outgoing.stamp_ns if self._source.has_clock else wall_start_ns + outgoing.time_ns
                self._sleep_until(due_ns, original_ns)
                if self._stopping.is_set():
                    return
                late_ns = time.monotonic_ns() - due_ns
                if late_ns > interval_ns:
                    # A camera that fell behind goes on from there, without a burst of what it missed.
                    start_ns += late_ns
                self._publish(outgoing, original_ns, late_ns)

    def _publish(self, outgoing: Outgoing, original_ns: int, late_ns: int) -> None:
        if self._settings.stamps == "now":
            ahead_ns = round(outgoing.ahead_ns / self._settings.rate)
            stamp_ns = self.node.get_clock().now().nanoseconds + ahead_ns
        else:
            stamp_ns = original_ns + outgoing.ahead_ns
        message = outgoing.message(stamp_ns)
        steady_ns = time.monotonic_ns()
        self._publisher.publish(message)
        publish_ms, late_ms = (time.monotonic_ns() - steady_ns) / 1e6, late_ns / 1e6
        sent = SentFrame(outgoing.index, outgoing.stamp_ns, stamp_ns, steady_ns, publish_ms, late_ms)
        self._first, self._last = self._first or sent, sent
        self._count += 1
        self._latest_ms = max(self._latest_ms, late_ms)
        if self._settings.sent_log:  # a loop may go on for weeks
            self._sent.append(sent)

    def _sleep_until(self, due_ns: int, due_stamp_ns: int) -> None:
        """Sleep, telling the time on /clock if that is asked for: at ``due_ns`` it is ``due_stamp_ns``."""
        period_s = 1 / self._settings.clock_hz if self._clock else float("inf")
        while (left_ns := due_ns - time.monotonic_ns()) > 0 and not self._stopping.is_set():
            self._tell_time(due_stamp_ns - round(left_ns * self._settings.rate))
            self._stopping.wait(min(left_ns / 1e9, period_s))
        self._tell_time(due_stamp_ns)

    def _tell_time(self, stamp_ns: int) -> None:
        if self._clock:
            now = self.node.get_clock().now() if self._settings.stamps == "now" else Time(nanoseconds=stamp_ns)
            self._clock.publish(Clock(clock=now.to_msg()))


def main() -> int:
    """Play to the end of the source, or until SIGINT or SIGTERM; the exit code."""
    return run_task(Player, "player")


if __name__ == "__main__":
    sys.exit(main())
