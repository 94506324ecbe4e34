"""One camera's face to the ROS graph: its subscription, its stream, what it publishes, and how it fares."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.lifecycle import LifecycleNode
from rclpy.subscription import MessageInfo
from std_msgs.msg import Header

from tdnet_ros.errors import StaleFrame, TdnetRosError
from tdnet_ros.labels import LabelSet
from tdnet_ros.node.camera_info import Calibration
from tdnet_ros.node.diagnostics import Health, Report, diagnose
from tdnet_ros.node.finishing import Finishing
from tdnet_ros.node.inputs import INPUTS, Stamped
from tdnet_ros.node.intake import Arrival, Cadence, Mailbox, Sender, Waiting
from tdnet_ros.node.latency import FrameTimes, latency_message
from tdnet_ros.node.outputs import Outputs
from tdnet_ros.node.parameters import SegmentationParameters
from tdnet_ros.node.qos_watch import QosWatch, node_name
from tdnet_ros.node.subscription import CameraSubscription
from tdnet_ros.streaming import Segmentation, SegmentationStream
from tdnet_ros.video.frame import Frame
from tdnet_ros.video.messages.cdr import peek_header

_LOG_PERIOD_S = 2.0
_GIVE_WAY_S = 1e-4


@dataclass
class Picture:
    """A frame on its way through the node: the header that its mask will have, when it got how far, what came of it."""

    header: Stamped
    frame: Frame
    times: FrameTimes
    mask: npt.NDArray[np.uint8] | None = None
    confidence: npt.NDArray[np.uint8] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frame."""
        return self.frame.height, self.frame.width


class Camera:
    """A camera of the node. Its publishers exist from construction to ``destroy``, the rest from start to stop.

    Messages are only stored on the executor's thread. The worker alone touches decoder and stream: others leave a
    reset's reason for it to pick up. ``name`` prefixes the topics; empty for a node's only camera.
    """

    def __init__(self, node: LifecycleNode, name: str, parameters: SegmentationParameters, labels: LabelSet) -> None:
        """Raises ConfigurationError for an ignore mask that is none, and without the package of the input's type."""
        self.name = name
        self.parameters = parameters
        self.enabled = True
        self._node = node
        self._prefix = f"{name}/" if name else ""
        self._spoken = f"{name}: " if name else ""  # before what the log says of this camera
        self._watch = QosWatch(node)
        self.stream: SegmentationStream | None = None
        self._cadence, self._sender, self._health = Cadence(), Sender(), Health()
        self._reset_reason: str | None = None  # for the next message to carry
        self._after_gap = False
        self._finishing = Finishing(parameters, name)
        self._input = INPUTS[parameters.input_transport]
        self._message_type = self._input.load_type()
        self._subscription: CameraSubscription | None = None
        image_topic = node.resolve_topic_name(f"{self._prefix}image")
        self.topic = image_topic + self._input.suffix
        self._calibration = Calibration(node, image_topic, node.resolve_topic_name(f"{self._prefix}camera_info"))
        self._outputs = Outputs(node, self._watch, labels, self._prefix)

    # Lifecycle

    def start(self, stream: SegmentationStream, waiting: Waiting) -> None:
        """Name the classes and subscribe. What went before is forgotten. The publishers have to be active."""
        self._outputs.publish_labels(self.parameters.min_confidence)
        self.stream = stream
        self._decoder = self._input.make_decoder(self.parameters.segment_damaged_video)
        self._mailbox: Mailbox = waiting.mailbox(self._input.in_order)
        self._cadence, self._sender, self._health = Cadence(), Sender(), Health()
        self._reset_reason, self._after_gap = None, False
        self._calibration.start()
        self._subscription = CameraSubscription(
            self._node, self._watch, self._message_type, self.topic, self._receive, self._input.qos
        )

    def stop(self) -> None:
        """Unsubscribe; the stream keeps what it has until the next start."""
        if self._subscription is not None:
            self._subscription.destroy()
            self._calibration.stop()
            self._subscription = None

    def forget(self) -> None:
        """Let go of the stream, and with it of the network: there is none until the next start."""
        self.stream = None

    def destroy(self) -> None:
        """Take the publishers off the node."""
        self._outputs.destroy()

    # Executor's thread

    def resume(self) -> None:
        """Images are taken again after a pause."""
        self._cadence.restart()
        self._sender = Sender()  # what was sent in the pause is not lost
        self._after_gap = True
        self.ask_for_reset("resumed after a pause")

    def change(self, parameters: SegmentationParameters) -> None:
        """Live parameters have changed."""
        renamed = parameters.min_confidence != self.parameters.min_confidence
        self.parameters = parameters
        if renamed and self._subscription is not None:
            self._outputs.publish_labels(parameters.min_confidence)

    def ask_for_reset(self, reason: str) -> None:
        """Empty the window before the next image, and say why."""
        self._reset_reason = reason

    def diagnose(self, facts: dict[str, str]) -> DiagnosticStatus:
        """The camera's status now; ``facts`` are those of the node."""
        if self._subscription is not None:
            self._subscription.adapt()
        report = Report(
            received=self._mailbox.received,
            dropped=self._dropped,
            resets=self.stream.resets,
            input_rate_hz=self._cadence.rate_hz,
            publishers=tuple(map(node_name, self._node.get_publishers_info_by_topic(self.topic))),
            topic=self.topic,
            troubles=tuple(self._watch.troubles()),
            has_time=self._node.get_clock().now().nanoseconds > 0,
            facts={**facts, **self._decoder.facts},
        )
        name = f"{self._node.get_fully_qualified_name().lstrip('/')}: {self.name or 'segmentation'}"
        return diagnose(name, self._health, report, self.parameters, self.enabled)

    def _receive(self, message: bytes, info: MessageInfo) -> None:
        now_s = self._health.last_input_s = time.perf_counter()
        if not self.enabled:
            return
        sender = self._sender.identity
        holes = self._sender.observe(info)
        after_gap = self._after_gap or holes > 0 or (sender != self._sender.identity and sender != "")
        stamp_ns = _stamp_ns(message)
        missing = max(holes, self._cadence.observe(stamp_ns, self.parameters.max_gap_s) if stamp_ns else 0)
        if missing:
            self._health.lost_upstream += missing
            self._health.last_lost_s = now_s
            if holes or not self._sender.is_counted:
                self._health.last_undelivered_s = now_s
        reason, self._reset_reason = self._reset_reason, None
        self._mailbox.put(Arrival(message, now_s, self._sender.identity, reason, after_gap, stamp_ns))
        self._after_gap = False
        # Lets the worker have the interpreter: else it waits until the executor has prepared its next wait.
        time.sleep(_GIVE_WAY_S)

    # Worker's thread

    @property
    def wants_confidence(self) -> bool:
        """Whether the confidence is needed: somebody listens to it, or masks depend on it."""
        return self._outputs.wants_confidence or self.parameters.min_confidence > 0

    def take(self) -> Picture | None:
        """The newest frame of what has arrived, the stream made ready for it; None when there is none."""
        arrivals, shown = self._mailbox.take(), list[Arrival]()
        taken_s, lost = time.perf_counter(), self._decoder.lost
        self.stream.limits, self.stream.settings = self.parameters.limits, self.parameters.stream_settings
        for arrival in arrivals:
            with self.attended():
                if arrival.reset_reason is not None:
                    self.stream.reset(arrival.reset_reason)
                    with contextlib.suppress(TdnetRosError):
                        self._decoder.newest()  # belongs to what was before the reset
                if self._decoder.feed(arrival.message, arrival.after_gap):
                    shown.append(arrival)
        self._health.skipped += max(0, len(shown) - 1)
        if self._decoder.lost > lost:
            self._report(f"{self._decoder.lost - lost} video packets were lost before they arrived")
        with self.attended():
            if (decoded := self._decoder.newest()) is not None:
                header, frame = decoded
                self._finishing.check(frame.height, frame.width)
                source = (shown or arrivals)[-1]
                times = FrameTimes(source.arrived_s, taken_s, time.perf_counter())
                return Picture(header, replace(frame, sender=source.sender), times)
            self._health.skipped += bool(shown)  # withheld: a damaged one came after it
        return None

    def publish(self, picture: Picture, result: Segmentation) -> None:
        """The mask, what belongs to it, and how long everything took."""
        self._decoder.segmented()
        picture.mask, picture.confidence = self._finishing.finish(
            result.mask, result.confidence, self.parameters.min_confidence
        )
        self._outputs.publish_mask(picture.header, picture.mask)
        times = picture.times
        times.published_s = time.perf_counter()
        age_ms = self._age_ms(picture.frame)
        self.stream.report_latency(age_ms)
        if result.reset_reason is not None:
            self._node.get_logger().warning(f"{self._spoken}window emptied: {result.reset_reason}")
        header = _header(picture.header)
        if self._outputs.wants_camera_info:
            self._publish_camera_info(header, picture)
        message = latency_message(header, result, times, age_ms)
        message.camera = self.name
        message.sequence = self._health.published
        message.dropped_total = self._dropped
        message.lost_upstream_total = max(self._health.lost_upstream, self._decoder.lost)
        self._outputs.publish_latency(message)
        self._health.published += 1
        self._health.node_ms.add(times.node_ms)
        self._health.age_ms.add(age_ms)

    def publish_extras(self, picture: Picture) -> None:
        """Confidence and overlay, for those who listen; after the masks, which must not wait for them."""
        assert picture.mask is not None
        opacity = self.parameters.overlay_opacity
        self._outputs.publish_extras(picture.header, picture.frame, picture.mask, picture.confidence, opacity)

    @contextlib.contextmanager
    def attended(self) -> Iterator[None]:
        """What goes wrong with one of this camera's frames is counted and reported, and ends nothing but the frame."""
        try:
            yield
            return
        except StaleFrame:
            self._health.stale += 1
            return
        except TdnetRosError as error:
            self._health.rejected += 1
            self._report(str(error))
            return
        except Exception as error:
            # Nothing that a frame does to the network may end the node; the window is not trusted any more.
            self._health.failures += 1
            self.stream.reset(f"{type(error).__name__} while segmenting")
            self._report(f"{type(error).__name__}: {error}", traceback.format_exc())
        # Not within the block: the exception's traceback holds the tensors that were there when it was raised.
        self.stream.segmenter.runtime.release_unused()
        self.stream.segmenter.runtime.synchronise()  # raises on a device that will not recover: the node is to end

    def _publish_camera_info(self, header: Header, picture: Picture) -> None:
        assert picture.mask is not None
        height, width = picture.mask.shape
        frame = picture.frame
        try:
            info = self._calibration.of_mask(header, width / frame.width, height / frame.height)
        except TdnetRosError as error:  # the mask is as good without it
            self._report(f"{self._calibration.topic}: {error}")
            return
        if info is not None:
            self._outputs.publish_camera_info(info)

    @property
    def _dropped(self) -> int:
        """Images that arrived and gave way to a newer one."""
        return self._mailbox.dropped + self._health.skipped

    def _age_ms(self, frame: Frame) -> float:
        now_ns = self._node.get_clock().now().nanoseconds
        if frame.stamp_ns is None or now_ns == 0:
            return float("nan")
        return (now_ns - frame.stamp_ns) / 1e6

    def _report(self, text: str, details: str = "") -> None:
        self._health.trouble(text)
        self._node.get_logger().error(f"{self._spoken}{text}", throttle_duration_sec=_LOG_PERIOD_S)
        if details:
            self._node.get_logger().debug(details)


def _stamp_ns(message: bytes) -> int | None:
    try:
        sec, nanosec, _ = peek_header(message)
    except TdnetRosError:
        return None  # the worker says what is wrong with it
    return sec * 1_000_000_000 + nanosec or None


def _header(stamped: Stamped) -> Header:
    header = Header(frame_id=stamped.frame_id)
    header.stamp.sec, header.stamp.nanosec = stamped.sec, stamped.nanosec
    return header
