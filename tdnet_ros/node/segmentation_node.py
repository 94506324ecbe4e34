"""Subscribes to cameras, publishes a mask for the newest image of each, and says how long everything took."""

from __future__ import annotations

import sys
from functools import partial

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool, Trigger

from tdnet_ros.errors import ConfigurationError, TdnetRosError
from tdnet_ros.node import transport
from tdnet_ros.node.camera import Camera
from tdnet_ros.node.inputs import INPUTS
from tdnet_ros.node.intake import Waiting
from tdnet_ros.node.parameters import SegmentationParameters
from tdnet_ros.node.process import run_task
from tdnet_ros.node.settings import changed, declare_settings
from tdnet_ros.node.worker import Worker
from tdnet_ros.streaming import Segmenter

_ONE_CAMERA = ("",)


class SegmentationNode(LifecycleNode):
    """Configure loads the weights, activate subscribes, deactivate stops, cleanup frees the network.

    What belongs to one camera is a Camera's affair, the work on their images a Worker's.
    """

    #: The engine. Another one measures what the node alone costs.
    segmenter_type: type[Segmenter] = Segmenter

    def __init__(self) -> None:
        super().__init__("segmentation_node")
        self.parameters = declare_settings(self, SegmentationParameters)
        self.failure: TdnetRosError | None = None
        self._segmenter: Segmenter | None = None
        self._cameras: list[Camera] = []
        self._worker: Worker | None = None
        self._enabled = True
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
        try:
            INPUTS[self.parameters.input_transport].load_type()  # before the weights: it may be missing
            self._segmenter = self._load(self.parameters)
            self._cameras = [Camera(self, name, self.parameters, self._segmenter.labels) for name in _ONE_CAMERA]
        except TdnetRosError as error:
            self.failure = error
            self.get_logger().error(str(error))
            self._segmenter = None
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        assert self._segmenter is not None
        waiting = Waiting()
        for camera in self._cameras:
            camera.start(self._segmenter.stream(self.parameters.limits), waiting)
        self._timer = self.create_timer(1.0, self._publish_diagnostics)
        result = super().on_activate(state)
        self._worker = Worker(self._segmenter, self._cameras, waiting)
        self.get_logger().info(f"segmenting {', '.join(camera.topic for camera in self._cameras)}")
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

    def _load(self, parameters: SegmentationParameters) -> Segmenter:
        """The network with its weights, every step of it made ready. Raises what is wrong with the parameters."""
        segmenter = self.segmenter_type(
            parameters.model,
            parameters.weights or None,
            parameters.device,
            parameters.precision,
            parameters.input_height,
            parameters.threads,
            parameters.runtime,
            parameters.score_memory,
        )
        network = segmenter.network.info
        segmenter.warm_up(*network.input_size, cameras=len(_ONE_CAMERA))
        self.get_logger().info(f"{network.name} on {segmenter.runtime.describe()} is ready")
        self.get_logger().info(f"terms of the weights: {network.stated_terms}")
        return segmenter

    def _stop_work(self) -> None:
        if self._worker is None:
            return
        self.destroy_timer(self._timer)
        for camera in self._cameras:
            camera.stop()
        self._worker.stop()
        self._worker = None

    def _release(self) -> None:
        for camera in self._cameras:
            camera.destroy()
        self._cameras, self._segmenter = [], None

    # Parameters, services and clock, on the executor's thread

    def _check_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        try:
            self.parameters = changed(self.parameters, parameters, working=self._segmenter is not None)
        except ConfigurationError as error:
            return SetParametersResult(successful=False, reason=str(error))
        for camera in self._cameras:
            camera.parameters = self.parameters
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

    def _on_clock_jump(self, jump: TimeJump) -> None:
        self._ask_for_reset(f"clock jumped by {jump.delta.nanoseconds / 1e9:.3f} s")

    def _ask_for_reset(self, reason: str) -> None:
        for camera in self._cameras:
            camera.ask_for_reset(reason)

    # Diagnostics

    def _publish_diagnostics(self) -> None:
        assert self._segmenter is not None
        facts = self._facts(self._segmenter)
        array = DiagnosticArray()
        array.header.stamp = self.get_clock().now().to_msg()
        array.status = [camera.diagnose(facts) for camera in self._cameras]
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
