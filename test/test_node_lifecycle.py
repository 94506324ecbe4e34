"""The node's lifecycle, driven by the services that Nav2's lifecycle manager calls, and by a GPU that is not there."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: pip install 'tdnet_ros[ros]', or use a ROS 2 distribution")

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from segmentation_graph import Graph, greet, running_node, wait_for

from tdnet_ros.errors import ConfigurationError, NodeFailure
from tdnet_ros.labels import CAMVID
from tdnet_ros.node.segmentation_node import SegmentationNode
from tdnet_ros.node.transport import PROFILE_VARIABLES
from tdnet_ros.streaming import StreamSettings


class Manager:
    """Nav2's lifecycle manager, as far as one node sees it: change_state, then get_state. It waits for no bond."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def change(self, transition: str) -> tuple[bool, str]:
        """Success, and the state that the node is in afterwards."""
        identifier = getattr(Transition, f"TRANSITION_{transition.upper()}")
        request = ChangeState.Request(transition=Transition(id=identifier))
        done = self.graph.call(ChangeState, "segmentation_node/change_state", request).success
        return done, self.graph.call(GetState, "segmentation_node/get_state", GetState.Request()).current_state.label


def test_lifecycle_manager_drives_the_node() -> None:
    parameters = ("autostart:=false", "weights:=/nowhere/td2.safetensors")
    with running_node(*parameters, announced="is waiting for a lifecycle manager") as (process, domain):
        graph = Graph(process, domain)
        manager = Manager(graph)
        try:
            assert manager.change("configure") == (False, "unconfigured")
            process.wait_for("weights is '/nowhere/td2.safetensors', expected an existing weight file")
            assert graph.parameter("weights", "") == (True, "")
            for _ in range(2):
                assert manager.change("configure") == (True, "inactive")
                assert graph.parameter("model", "td4_psp18")[0] is False
                assert manager.change("activate") == (True, "active")
                wait_for(lambda: graph.camera.get_subscription_count() == 1, "the subscription", graph)
                wait_for(lambda: graph.node.count_publishers("mask") == 1, "the mask", graph)
                greet(graph)
                graph.masks.clear()
                assert manager.change("deactivate") == (True, "inactive")
                wait_for(lambda: graph.camera.get_subscription_count() == 0, "no subscription", graph)
                assert manager.change("activate") == (True, "active")
                assert manager.change("deactivate") == (True, "inactive")
                assert manager.change("cleanup") == (True, "unconfigured")
                wait_for(lambda: graph.node.count_publishers("mask") == 0, "no mask", graph)
            assert manager.change("unconfigured_shutdown") == (True, "finalized")
        finally:
            graph.close()
        assert process.stop() == 0, process.output
        assert "Traceback" not in process.output


class Engine:
    """What the node asks of a Segmenter on a GPU; ``fault`` is raised by the next one to be made or to warm up."""

    fault: Exception | None = None
    refusal: Exception | None = None
    made: list[weakref.ref[Any]]

    def __init__(self, *_: object) -> None:
        if (fault := type(self).fault) is not None:
            type(self).fault = None
            raise fault
        type(self).made.append(weakref.ref(self))
        self.labels = CAMVID
        info = SimpleNamespace(name="none", stated_terms="none", input_size=(64, 96), keyframe_interval=1)
        self.network = SimpleNamespace(info=info)
        self.runtime = SimpleNamespace(
            device=SimpleNamespace(type="cuda"), describe=lambda: "a GPU", release_unused=lambda: None
        )

    def warm_up(self, height: int, width: int, cameras: int = 1) -> None:
        """Nothing to do, or what it cannot do."""
        if (refusal := type(self).refusal) is not None:
            type(self).refusal = None
            raise refusal

    def check(self, settings: StreamSettings) -> None:
        """As of an export without frames between keyframes."""
        if settings.keyframe_interval > 1:
            raise ConfigurationError("keyframe_interval is not exported")

    def stream(self, limits: object) -> Any:
        """A stream keeps its segmenter."""
        return SimpleNamespace(segmenter=self)


@pytest.fixture
def node(ros_domain: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[SegmentationNode]:
    for name in PROFILE_VARIABLES:
        monkeypatch.setenv(name, "")  # the node chooses a profile; it goes when the test ends

    class GpuNode(SegmentationNode):
        segmenter_type = Engine  # type: ignore[assignment]

    Engine.made, Engine.fault, Engine.refusal = [], None, None
    rclpy.init()
    made = GpuNode()
    yield made
    made.trigger_shutdown()
    made.destroy_node()
    rclpy.try_shutdown()


def test_without_vision_msgs_one_line_says_so_and_the_rest_works(
    node: SegmentationNode, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "vision_msgs.msg", None)
    node.set_parameters([Parameter("cameras", value=["front", "left"])])
    assert node.trigger_configure() == node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    said = [line for line in "".join(capfd.readouterr()).splitlines() if "vision_msgs" in line]
    assert len(said) == 1
    assert "label_info is not published" in said[0] and "ros-" in said[0] and "-vision-msgs" in said[0]
    assert node.count_publishers("front/mask") == node.count_publishers("left/mask") == 1
    assert node.count_publishers("front/label_info") == 0


def test_what_the_engine_has_no_steps_for_is_refused_and_what_changes_nothing_is_said(
    node: SegmentationNode, capfd: pytest.CaptureFixture[str]
) -> None:
    said = "latency_budget_ms is 50.0 and changes nothing: 'none' computes every frame in full"
    node.set_parameters([Parameter("latency_budget_ms", value=50.0)])
    assert node.trigger_configure() == node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    assert said in "".join(capfd.readouterr())
    (refused,) = node.set_parameters([Parameter("keyframe_interval", value=3)])
    assert (refused.successful, refused.reason) == (False, "keyframe_interval is not exported")
    assert node.parameters.keyframe_interval == 0
    assert node.set_parameters([Parameter("latency_budget_ms", value=40.0)])[0].successful


def alive() -> list[bool]:
    gc.collect()
    return [engine() is not None for engine in Engine.made]


def test_deactivate_frees_the_device_and_activate_takes_it_again(node: SegmentationNode) -> None:
    succeeded = TransitionCallbackReturn.SUCCESS
    assert node.trigger_configure() == succeeded and node.trigger_activate() == succeeded
    assert alive() == [True]
    assert node.trigger_deactivate() == succeeded
    assert alive() == [False]
    assert node.trigger_activate() == succeeded
    assert alive() == [False, True]
    assert node.trigger_deactivate() == node.trigger_cleanup() == succeeded
    assert alive() == [False, False]


def test_a_failed_configure_leaves_nothing_on_the_device(node: SegmentationNode) -> None:
    Engine.refusal = ConfigurationError("steps cannot be made ready")
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert str(node.failure) == "steps cannot be made ready"
    assert alive() == [False]


def test_a_node_without_its_thread_ends(node: SegmentationNode) -> None:
    assert node.trigger_configure() == node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    assert node._worker is not None
    node._worker.failure = RuntimeError("the device is gone")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        with pytest.raises(NodeFailure, match=r"thread that segments has ended, RuntimeError: the device is gone"):
            for _ in range(100):  # the timer of the diagnostics is due after a second
                executor.spin_once(timeout_sec=0.5)
    finally:
        executor.shutdown()


@pytest.mark.parametrize("transition", ["configure", "activate"])
def test_exception_in_a_transition_is_told_and_the_node_can_be_tried_again(
    node: SegmentationNode, capfd: pytest.CaptureFixture[str], transition: str
) -> None:
    if transition == "activate":
        node.trigger_configure()
        node.trigger_activate()
        node.trigger_deactivate()
    Engine.fault = RuntimeError("CUDA out of memory")
    assert getattr(node, f"trigger_{transition}")() == TransitionCallbackReturn.FAILURE
    assert "CUDA out of memory" in "".join(capfd.readouterr())
    assert node.count_subscribers("image") == 0
    for again in ("configure", "activate"):
        if (transition, again) != ("activate", "configure"):
            assert getattr(node, f"trigger_{again}")() == TransitionCallbackReturn.SUCCESS
    assert alive()[-1] is True
