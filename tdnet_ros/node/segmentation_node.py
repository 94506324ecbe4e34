"""Subscribes to cameras, publishes a mask for the newest image of each, and says how long everything took."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from functools import partial

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockChange, JumpHandle, JumpThreshold, TimeJump
from rclpy.clock_type import ClockType
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.timer import Timer
from std_srvs.srv import SetBool, Trigger

from tdnet_ros.errors import ConfigurationError, NodeFailure, TdnetRosError
from tdnet_ros.node import transport
from tdnet_ros.node.camera import Camera
from tdnet_ros.node.intake import Waiting
from tdnet_ros.node.parameters import SegmentationParameters
from tdnet_ros.node.process import run_task
from tdnet_ros.node.settings import changed, declare_settings, undeclared
from tdnet_ros.node.worker import Worker
from tdnet_ros.streaming import Segmenter


class SegmentationNode(LifecycleNode):
    """Configure loads the weights, activate subscribes, deactivate stops and frees the device, cleanup frees the rest.

    What belongs to one camera is a Camera's affair, the work on their images a Worker's. A transition that fails
    leaves the node in the state that it came from, to be tried again.
    """

    #: The engine. Another one measures what the node alone costs.
    segmenter_type: type[Segmenter] = Segmenter

    def __init__(self) -> None:
        super().__init__("segmentation_node")
        self.parameters = declare_settings(self, SegmentationParameters)
        self.failure: TdnetRosError | None = None
        self.is_finalized = False  # as after a manager's shutdown
        self._segmenter: Segmenter | None = None
        self._cameras: list[Camera] = []
        self._worker: Worker | None = None
        self._timer: Timer | None = None
        self._enabled = True
        self._unknown: list[str] = []
        self._transport = transport.use_shared_memory_profile()
        if self._transport.warning:
            self.get_logger().warning(self._transport.warning)
        self._diagnostics = self.create_publisher(
            DiagnosticArray, "/diagnostics", 10, qos_overriding_options=QoSOverridingOptions.with_default_policies()
        )
        self.add_on_set_parameters_callback(self._check_parameters)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.create_service(Trigger, "~/reset", self._on_reset)
        self._clock_watch = self._watch_clock()

    def start(self) -> None:
        """Configure and activate without a lifecycle manager; raises what kept the node from it."""
        for transition in (self.trigger_configure, self.trigger_activate):
            if transition() != TransitionCallbackReturn.SUCCESS:
                raise self.failure or ConfigurationError("the node could not be configured, see the log")

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._attempt(self._configure, self._release)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        def undo() -> None:
            self._stop_work()
            super(SegmentationNode, self).on_deactivate(state)

        super().on_activate(state)  # the publishers
        return self._attempt(self._start_work, undo)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop_work()
        self._free_device()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop_work()
        self._release()
        self.is_finalized = True
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Where an exception has ended a transition: unconfigured, with nothing left of it."""
        self._stop_work()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def _attempt(self, action: Callable[[], None], undo: Callable[[], None]) -> TransitionCallbackReturn:
        """Of what goes wrong rclpy would say nothing: it is logged, and undone."""
        self.failure = None
        try:
            action()
        except TdnetRosError as error:
            # With its traceback it would keep the half-made network, on the device too.
            error.__cause__ = error.__context__ = None
            self.failure = error.with_traceback(None)
            self.get_logger().error(str(error))
        except Exception as error:
            # Drivers and libraries raise what they like, out of memory above all; a manager may try again.
            self.failure = ConfigurationError(f"{type(error).__name__}: {error}")
            self.get_logger().error(f"{self.failure}\n{traceback.format_exc()}")
        else:
            return TransitionCallbackReturn.SUCCESS
        undo()
        return TransitionCallbackReturn.FAILURE

    def _configure(self) -> None:
        names = self.parameters.camera_names
        self._segmenter = self._load()
        for name in names:
            camera = Camera(self, name, self.parameters, self._segmenter.labels)
            camera.enabled = self._enabled
            self._cameras.append(camera)

    def _load(self) -> Segmenter:
        """The network with its weights, every step of it made ready."""
        parameters = self.parameters
        segmenter = self.segmenter_type(
            parameters.model,
            parameters.weights or None,
            parameters.device,
            parameters.precision,
            parameters.input_height,
            parameters.threads,
            parameters.runtime,
            parameters.score_memory,
            parameters.stream_settings,
        )
        network = segmenter.network.info
        segmenter.warm_up(*network.input_size, cameras=len(parameters.camera_names))
        self.get_logger().info(f"{network.name} on {segmenter.runtime.describe()} is ready")
        self.get_logger().info(f"terms of the weights: {network.stated_terms}")
        return segmenter

    def _start_work(self) -> None:
        if self._segmenter is None:
            self._segmenter = self._load()  # deactivate has freed the device
        waiting = Waiting(self.parameters.gather_ms / 1e3)
        for camera in self._cameras:
            camera.start(self._segmenter.stream(self.parameters.limits), waiting)
        self._worker = Worker(self._segmenter, self._cameras, waiting)
        # Not by the ROS clock: that may stand still, or go back when a bag is played again.
        self._timer = self.create_timer(1.0, self._publish_diagnostics, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._unknown = undeclared(self)
        for text in (*self._unknown, *self.parameters.stream_settings.remarks(self._segmenter.network.info)):
            self.get_logger().warning(text)
        self.get_logger().info(f"segmenting {', '.join(camera.topic for camera in self._cameras)}")

    def _stop_work(self) -> None:
        if self._timer is not None:
            self.destroy_timer(self._timer)
            self._timer = None
        for camera in self._cameras:
            camera.stop()
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def _free_device(self) -> None:
        """On a GPU: windows, weights and captured steps; activate loads them anew. On a CPU the windows alone."""
        for camera in self._cameras:
            camera.forget()
        if self._segmenter is not None and self._segmenter.runtime.device.type == "cuda":
            self._unload()

    def _release(self) -> None:
        for camera in self._cameras:
            camera.destroy()
        self._cameras = []
        self._unload()

    def _unload(self) -> None:
        if self._segmenter is not None:
            runtime, self._segmenter = self._segmenter.runtime, None
            runtime.release_unused()

    # Parameters, services and clock, on the executor's thread

    def _check_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        try:
            wanted = changed(self.parameters, parameters, working=bool(self._cameras))
            settings = wanted.stream_settings  # refuses what its ranges alone do not
            if self._segmenter is not None:
                self._segmenter.check(settings)
            other_gap = wanted.max_gap_s != self.parameters.max_gap_s
            self.parameters = wanted
        except ConfigurationError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if other_gap:
            self._clock_watch.unregister()
            self._clock_watch = self._watch_clock()
        for camera in self._cameras:
            camera.change(self.parameters)
        return SetParametersResult(successful=True)

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        resumed = request.data and not self._enabled
        self._enabled = request.data
        for camera in self._cameras:
            if resumed:
                camera.resume()
            camera.enabled = self._enabled
        response.success, response.message = True, "enabled" if request.data else "disabled"
        return response

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._ask_for_reset("asked for by ~/reset")
        response.success, response.message = True, "the window is emptied before the next image"
        return response

    def _watch_clock(self) -> JumpHandle:
        threshold = JumpThreshold(
            min_forward=Duration(seconds=self.parameters.max_gap_s),
            min_backward=Duration(nanoseconds=-1),
            on_clock_change=True,
        )
        return self.get_clock().create_jump_callback(threshold, post_callback=self._on_clock_jump)

    def _on_clock_jump(self, jump: TimeJump) -> None:
        if jump.clock_change in (ClockChange.ROS_TIME_ACTIVATED, ClockChange.ROS_TIME_DEACTIVATED):
            self._ask_for_reset("another clock: use_sim_time has changed")
        else:
            self._ask_for_reset(f"clock jumped by {jump.delta.nanoseconds / 1e9:.3f} s")

    def _ask_for_reset(self, reason: str) -> None:
        for camera in self._cameras:
            camera.ask_for_reset(reason)

    # Diagnostics

    def _publish_diagnostics(self) -> None:
        """Once a second. Raises NodeFailure when there will be no more masks."""
        if self._worker is not None and (fault := self._worker.failure) is not None:
            raise NodeFailure(f"the thread that segments has ended, {type(fault).__name__}: {fault}") from fault
        facts = self._facts()
        array = DiagnosticArray()
        array.header.stamp = self.get_clock().now().to_msg()
        array.status = [camera.diagnose(facts) for camera in self._cameras]
        self._diagnostics.publish(array)

    def _facts(self) -> dict[str, str]:
        assert self._segmenter is not None and self._worker is not None
        runtime, network = self._segmenter.runtime, self._segmenter.network.info
        memory_mib = runtime.memory_mib()
        return {
            "images per step": f"{self._worker.images_per_step:.2f}",
            "common steps that failed": str(self._segmenter.failed_batches),
            "model": network.name,
            "terms": network.stated_terms,
            "precision": runtime.precision,
            "runtime": runtime.engine,
            "device": runtime.describe_device(),
            "transport": f"{self._transport.origin}, {self._transport.profile or 'no profile'}",
            "transport warning": self._transport.warning,
            "device memory (MiB)": "n/a" if memory_mib is None else f"{memory_mib:.0f}",
            "unknown parameters": "; ".join(self._unknown),
            "parameters without effect": "; ".join(self.parameters.stream_settings.remarks(network)),
        }


class _Task:
    """The node as a process: starts by itself unless a lifecycle manager does that, and ends when told to."""

    finished = False

    def __init__(self, node_type: type[SegmentationNode]) -> None:
        self.node = node_type()
        if self.node.parameters.autostart:
            self.node.start()
        else:
            self.node.get_logger().info("is waiting for a lifecycle manager")

    def close(self) -> None:
        if not self.node.is_finalized:
            self.node.trigger_shutdown()


def main(node_type: type[SegmentationNode] = SegmentationNode) -> int:
    """Run the node until SIGINT or SIGTERM; the exit code."""
    return run_task(partial(_Task, node_type), "segmentation_node")


if __name__ == "__main__":
    sys.exit(main())
