"""Subscribes to a camera, publishes a mask for the newest image, and says how long everything took."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from dataclasses import replace
from functools import partial

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import MessageInfo
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger

from tdnet_ros.errors import ConfigurationError, StaleFrame, TdnetRosError
from tdnet_ros.node import messages, transport
from tdnet_ros.node.cdr import CompressedView, ImageView, peek_header
from tdnet_ros.node.diagnostics import Health, Report, diagnose
from tdnet_ros.node.intake import Arrival, Cadence, Mailbox, Sender
from tdnet_ros.node.latency import FrameTimes, latency_message
from tdnet_ros.node.outputs import Outputs
from tdnet_ros.node.parameters import SegmentationParameters
from tdnet_ros.node.process import run_task
from tdnet_ros.node.settings import changed, declare_settings
from tdnet_ros.streaming import SegmentationStream, Segmenter
from tdnet_ros.video.frame import Frame

_LOG_PERIOD_S = 2.0
_GIVE_WAY_S = 1e-4
_INPUTS = {
    "raw": (Image, "", messages.image_view, messages.to_frame),
    "compressed": (CompressedImage, "/compressed", messages.compressed_view, messages.compressed_to_frame),
}


class SegmentationNode(LifecycleNode):
    """Configure loads the weights, activate subscribes, deactivate stops, cleanup frees the network.

    Messages are only stored on the executor's thread; a worker decodes, segments and publishes. The worker is the
    only thread that touches the stream: others leave a reset's reason for it to pick up.
    """

    #: The engine. Another one measures what the node alone costs.
    segmenter_type: type[Segmenter] = Segmenter

    def __init__(self) -> None:
        super().__init__("segmentation_node")
        self.parameters = declare_settings(self, SegmentationParameters)
        self.failure: TdnetRosError | None = None
        self._segmenter: Segmenter | None = None
        self._outputs: Outputs | None = None
        self._worker: threading.Thread | None = None
        self._enabled = True
        self._reset_reason: str | None = None  # for the next message to carry
        self._mailbox, self._cadence, self._sender, self._health = Mailbox(), Cadence(), Sender(), Health()
        self._stream: SegmentationStream | None = None
        self._transport = transport.use_shared_memory_profile()
        if self._transport.warning:
            self.get_logger().warning(self._transport.warning)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.add_on_set_parameters_callback(self._check_parameters)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.create_service(Trigger, "~/reset", self._on_reset)
        self._clock_watch = self.get_clock().create_jump_callback(
            JumpThreshold(
                min_forward=Duration(seconds=self.parameters.max_gap_s),
                min_backward=Duration(nanoseconds=-1),
                on_clock_change=True,
            ),
            post_callback=self._on_clock_jump,
        )

    def start(self) -> None:
        """Configure and activate without a lifecycle manager; raises what kept the node from it."""
        for transition in (self.trigger_configure, self.trigger_activate):
            if transition() != TransitionCallbackReturn.SUCCESS:
                raise self.failure or ConfigurationError("the node could not be configured, see the log")

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        parameters = self.parameters
        try:
            self._segmenter = self.segmenter_type(
                parameters.model,
                parameters.weights or None,
                parameters.device,
                parameters.precision,
                parameters.input_height,
                parameters.threads,
                parameters.runtime,
                parameters.score_memory,
            )
            network = self._segmenter.network.info
            self._segmenter.warm_up(*network.input_size)
        except TdnetRosError as error:
            self.failure = error
            self.get_logger().error(str(error))
            self._segmenter = None
            return TransitionCallbackReturn.FAILURE
        self._outputs = Outputs(self, self._segmenter.labels)
        self.get_logger().info(f"{network.name} on {self._segmenter.runtime.describe()} is ready")
        self.get_logger().info(f"terms of the weights: {network.stated_terms}")
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        assert self._segmenter is not None
        self._stream = self._segmenter.stream(self.parameters.limits)
        self._mailbox, self._cadence, self._health = Mailbox(), Cadence(), Health()
        self._sender, self._reset_reason = Sender(), None
        message_type, suffix, *_ = _INPUTS[self.parameters.input_transport]
        self._subscription = self.create_subscription(
            message_type,
            self.resolve_topic_name("image") + suffix,
            self._receive,
            transport.IMAGE_INPUT,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            raw=True,
        )
        self._timer = self.create_timer(1.0, self._publish_diagnostics)
        result = super().on_activate(state)
        self._worker = threading.Thread(target=self._work, args=(self._mailbox,), name="segmentation")
        self._worker.start()
        self.get_logger().info(f"segmenting {self._subscription.topic_name}")
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop_work()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop_work()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def _stop_work(self) -> None:
        if self._worker is None:
            return
        self.destroy_timer(self._timer)
        self.destroy_subscription(self._subscription)
        self._mailbox.close()
        self._worker.join()
        self._worker = self._stream = None

    def _release(self) -> None:
        if self._outputs is not None:
            self._outputs.destroy()
        self._outputs = self._segmenter = None

    # Executor's thread

    def _receive(self, message: bytes, info: MessageInfo) -> None:
        now_s = self._health.last_input_s = time.perf_counter()
        if not self._enabled:
            return
        missing = max(self._sender.observe(info), self._missing_by_stamp(message))
        if missing:
            self._health.lost_upstream += missing
            self._health.last_lost_s = now_s
        reason, self._reset_reason = self._reset_reason, None
        self._mailbox.put(Arrival(message, now_s, self._sender.identity, reason))
        # Lets the worker have the interpreter: else it waits until the executor has prepared its next wait.
        time.sleep(_GIVE_WAY_S)

    def _missing_by_stamp(self, message: bytes) -> int:
        try:
            sec, nanosec, _ = peek_header(message)
        except TdnetRosError:
            return 0  # the worker says what is wrong with it
        if (sec, nanosec) == (0, 0):
            return 0
        return self._cadence.observe(sec * 1_000_000_000 + nanosec, self.parameters.max_gap_s)

    def _check_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        try:
            self.parameters = changed(self.parameters, parameters, working=self._segmenter is not None)
        except ConfigurationError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        if request.data and not self._enabled:
            self._cadence.restart()
            self._reset_reason = "resumed after a pause"
        self._enabled = request.data
        response.success, response.message = True, "enabled" if request.data else "disabled"
        return response

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._reset_reason = "asked for by ~/reset"
        response.success, response.message = True, "the window is emptied before the next image"
        return response

    def _on_clock_jump(self, jump: TimeJump) -> None:
        self._reset_reason = f"clock jumped by {jump.delta.nanoseconds / 1e9:.3f} s"

    def _publish_diagnostics(self) -> None:
        assert self._segmenter is not None and self._stream is not None
        report = Report(
            received=self._mailbox.received,
            dropped=self._mailbox.dropped,
            resets=self._stream.resets,
            input_rate_hz=self._cadence.rate_hz,
            publishers=self.count_publishers(self._subscription.topic_name),
            topic=self._subscription.topic_name,
            facts=self._facts(self._segmenter),
        )
        array = DiagnosticArray()
        array.header.stamp = self.get_clock().now().to_msg()
        name = f"{self.get_fully_qualified_name().lstrip('/')}: segmentation"
        array.status = [diagnose(name, self._health, report, self.parameters, self._enabled)]
        self._diagnostics.publish(array)

    def _facts(self, segmenter: Segmenter) -> dict[str, str]:
        memory_mib = segmenter.runtime.memory_mib()
        return {
            "model": segmenter.network.info.name,
            "terms": segmenter.network.info.stated_terms,
            "precision": segmenter.runtime.precision,
            "runtime": segmenter.runtime.engine,
            "device": segmenter.runtime.describe_device(),
            "transport": f"{self._transport.origin}, {self._transport.profile or 'no profile'}",
            "transport warning": self._transport.warning,
            "device memory (MiB)": "n/a" if memory_mib is None else f"{memory_mib:.0f}",
        }

    # Worker's thread

    def _work(self, mailbox: Mailbox) -> None:
        while (arrival := mailbox.take()) is not None:
            try:
                self._segment(arrival)
            except StaleFrame:
                self._health.stale += 1
            except TdnetRosError as error:
                self._health.rejected += 1
                self._report(str(error))
            except Exception as error:
                # Nothing that a frame does to the network may end the node; the window is not trusted any more.
                self._health.failures += 1
                if self._stream is not None:
                    self._stream.reset(f"{type(error).__name__} while segmenting")
                self._report(f"{type(error).__name__}: {error}", traceback.format_exc())

    def _segment(self, arrival: Arrival) -> None:
        assert self._stream is not None and self._outputs is not None
        times = FrameTimes(arrival.arrived_s, time.perf_counter())
        *_, parse, convert = _INPUTS[self.parameters.input_transport]
        view = parse(arrival.message)
        frame: Frame = replace(convert(view), sender=arrival.sender)
        times.decoded_s = time.perf_counter()
        self._stream.limits = self.parameters.limits
        if arrival.reset_reason is not None:
            self._stream.reset(arrival.reset_reason)
        result = self._stream.step(frame, confidence=self._outputs.wants_confidence)
        times.segmented_s = time.perf_counter()
        self._outputs.publish_mask(view, result)
        times.published_s = time.perf_counter()
        age_ms = self._age_ms(frame)
        if result.reset_reason is not None:
            self.get_logger().warning(f"window emptied: {result.reset_reason}")
        message = latency_message(_header(view), result, times, age_ms)
        message.sequence = self._health.published
        message.dropped_total, message.lost_upstream_total = self._mailbox.dropped, self._health.lost_upstream
        self._outputs.publish_latency(message)
        self._health.published += 1
        self._health.node_ms.add(times.node_ms)
        self._health.age_ms.add(age_ms)
        self._outputs.publish_extras(view, frame, result, self.parameters.overlay_opacity)

    def _age_ms(self, frame: Frame) -> float:
        now_ns = self.get_clock().now().nanoseconds
        if frame.stamp_ns is None or now_ns == 0:
            return float("nan")
        return (now_ns - frame.stamp_ns) / 1e6

    def _report(self, text: str, details: str = "") -> None:
        self._health.trouble(text)
        self.get_logger().error(text, throttle_duration_sec=_LOG_PERIOD_S)
        if details:
            self.get_logger().debug(details)


def _header(view: ImageView | CompressedView) -> Header:
    header = Header(frame_id=view.frame_id)
    header.stamp.sec, header.stamp.nanosec = view.stamp
    return header


class _Task:
    """The node as a process: starts by itself unless a lifecycle manager does that, and ends when told to."""

    finished = False

    def __init__(self, node_type: type[SegmentationNode]) -> None:
        self.node = node_type()
        if self.node.parameters.autostart:
            self.node.start()

    def close(self) -> None:
        self.node.trigger_shutdown()


def main(node_type: type[SegmentationNode] = SegmentationNode) -> int:
    """Run the node until SIGINT or SIGTERM; the exit code."""
    return run_task(partial(_Task, node_type), "segmentation_node")


if __name__ == "__main__":
    sys.exit(main())
