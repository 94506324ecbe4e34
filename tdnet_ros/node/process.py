"""A node as a process of its own: transport, signals, one clear line on failure, exit code."""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Protocol

import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy._rclpy_pybind11 import RCLError
from rclpy.executors import ShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions

from tdnet_ros.errors import ConfigurationError, TdnetRosError
from tdnet_ros.evaluation.processes import PARENT_VARIABLE
from tdnet_ros.node.settings import changed
from tdnet_ros.node.transport import tune_allocator, use_shared_memory_profile

#: How long the main thread waits in the middleware before it looks at signals and whether the work is done.
_POLL_S = 0.05
_LOG_PERIOD_S = 2.0
_PR_SET_PDEATHSIG = 1


class Task(Protocol):
    """A node that has an end: it finishes by itself or is told to."""

    node: Node

    @property
    def finished(self) -> bool:
        """Whether the work is over, well or badly."""

    def close(self) -> None:
        """Stop and put everything in order; called once. Raises TdnetRosError for what went wrong."""


def run_task(make_task: Callable[[], Task], name: str, arguments: list[str] | None = None) -> int:
    """Spin a task until it finishes or SIGINT or SIGTERM asks it to; the exit code: 0, or 1 after an error.

    rclpy's own handlers are not used: they shut the context down under the task's feet, which then could not
    send or log its last words.
    """
    use_shared_memory_profile()
    tune_allocator()
    # Everything is closed by then: Python's last look for garbage among all that torch has made takes half a second of
    # processor time, which on a busy machine is several seconds between the signal and the end.
    atexit.register(gc.freeze)
    asked_to_stop: list[int] = []

    def remember(number: int, _: FrameType | None) -> None:
        asked_to_stop.append(number)

    previous = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    _end_with_parent()
    try:
        rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
        task = make_task()
        executor = SingleThreadedExecutor()
        executor.add_node(task.node)
        try:
            while not asked_to_stop and not task.finished:
                _serve(executor, task.node)
        finally:
            executor.shutdown()
            task.close()
            task.node.destroy_node()
        return 0
    except (TdnetRosError, RCLError) as error:  # RCLError: what the middleware refuses, as security without plugins
        sys.stderr.write(f"{name}: error: {error}\n")
        return 1
    finally:
        rclpy.try_shutdown()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _serve(executor: SingleThreadedExecutor, node: Node) -> None:
    """Wait for the next thing to do, and do it.

    What rclpy's own services raise at requests that they cannot read ends nothing but the request.
    """
    try:
        executor.spin_once(timeout_sec=_POLL_S)
    except (TdnetRosError, RCLError, ShutdownException):
        raise
    except Exception as error:
        node.get_logger().error(
            f"a request or message was given up: {type(error).__name__}: {error}", throttle_duration_sec=_LOG_PERIOD_S
        )
        node.get_logger().debug(traceback.format_exc())


def _end_with_parent() -> None:
    """Linux: be told to stop when the process that started this node ends, if that one asked for it."""
    parent = os.environ.get(PARENT_VARIABLE)
    if parent and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        if parent != str(os.getppid()):  # it ended before this line
            os.kill(os.getpid(), signal.SIGINT)


def fix_settings(node: Node, settings: object) -> None:
    """Reject every later change of the settings with a reason: they are read once, at the start."""

    def reject(parameters: list[Parameter]) -> SetParametersResult:
        try:
            changed(settings, parameters, working=True)
        except ConfigurationError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(reject)
