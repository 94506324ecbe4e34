"""Disagreeing qualities of service, in words: with stand-ins for the graph, which has them rarely and late."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: pip install 'tdnet_ros[ros]', or use a ROS 2 distribution")

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from tdnet_ros.node.qos_watch import QosWatch, node_name


class GraphStandIn:
    """What a node knows of others' endpoints."""

    def __init__(self) -> None:
        self.publishers: list[Any] = []
        self.subscriptions: list[Any] = []
        self.logged: list[str] = []

    def get_publishers_info_by_topic(self, topic: str) -> list[Any]:
        return self.publishers

    def get_subscriptions_info_by_topic(self, topic: str) -> list[Any]:
        return self.subscriptions

    def get_logger(self) -> Any:
        return SimpleNamespace(warning=self.logged.append)


def endpoint(name: str, **policies: Any) -> Any:
    return SimpleNamespace(node_namespace="/rig", node_name=name, qos_profile=QoSProfile(depth=1, **policies))


def test_camera_that_offers_too_little_is_named_with_the_policy_and_the_way_out() -> None:
    graph, events = GraphStandIn(), []
    watch = QosWatch(graph)  # type: ignore[arg-type]
    callbacks = watch.subscription_events("/image", events.append)
    watch.subscribed("/image", QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    graph.publishers = [endpoint("good", durability=DurabilityPolicy.TRANSIENT_LOCAL), endpoint("driver")]
    assert watch.troubles() == [], "the graph is not asked before the middleware has seen something"
    assert callbacks.incompatible_qos is not None
    callbacks.incompatible_qos("event")  # type: ignore[arg-type]
    assert events == ["event"]
    expected = (
        "nothing comes on /image from /rig/driver: it offers durability volatile, asked for is transient_local; "
        "change it there or by qos_overrides./image.subscription.durability"
    )
    assert watch.troubles() == watch.troubles() == [expected]
    assert graph.logged == [expected], "said once"
    graph.publishers.pop()
    assert watch.troubles() == []


@pytest.mark.parametrize(
    ("offered", "requested", "said"),
    [
        (
            {"reliability": ReliabilityPolicy.BEST_EFFORT},
            {"reliability": ReliabilityPolicy.RELIABLE},
            "reliability reliable, offered is best_effort",
        ),
        ({"deadline": Duration(seconds=2)}, {"deadline": Duration(seconds=0.5)}, "deadline 0.5 s, offered is 2 s"),
        ({"reliability": ReliabilityPolicy.RELIABLE}, {"reliability": ReliabilityPolicy.BEST_EFFORT}, None),
        ({}, {}, None),
    ],
)
def test_subscriber_that_asks_for_too_much_is_named(
    offered: dict[str, Any], requested: dict[str, Any], said: str | None
) -> None:
    graph = GraphStandIn()
    watch = QosWatch(graph)  # type: ignore[arg-type]
    callbacks = watch.publisher_events("/mask")
    watch.published("/mask", QoSProfile(depth=1, **offered))
    graph.subscriptions = [endpoint("viewer", **requested)]
    assert callbacks.incompatible_qos is not None
    callbacks.incompatible_qos(None)  # type: ignore[arg-type]
    expected = [f"/rig/viewer gets nothing from /mask: it asks for {said}"] if said else []
    assert [text.partition(";")[0] for text in watch.troubles()] == expected


def test_node_whose_name_has_not_arrived_is_not_shown_the_middlewares_word_for_it() -> None:
    assert node_name(endpoint("driver")) == "/rig/driver"
    unknown = SimpleNamespace(node_namespace="_NODE_NAMESPACE_UNKNOWN_", node_name="_NODE_NAME_UNKNOWN_")
    assert node_name(unknown) == "a node without a name"
