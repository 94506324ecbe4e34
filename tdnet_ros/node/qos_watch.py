"""Says in words who gets nothing because publisher and subscriber do not agree in their quality of service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy

#: rmw_dds_common's name for a node whose own name has not arrived yet, or that is no ROS node.
_UNKNOWN = "_NODE_NAME_UNKNOWN_"
_UNNAMED = "a node without a name"


class QosWatch:
    """Watches topics of a node. The graph is asked only about topics on which the middleware saw a disagreement."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._offered: dict[str, QoSProfile] = {}  # by topic that we publish
        self._requested: dict[str, QoSProfile] = {}  # by topic that we subscribe to
        self._suspects: set[str] = set()
        self._told: set[str] = set()

    def publisher_events(self, topic: str) -> PublisherEventCallbacks:
        """What to hand over when a publisher on that resolved topic is made; ``published`` has to follow."""
        return PublisherEventCallbacks(incompatible_qos=lambda _: self._suspects.add(topic))

    def subscription_events(self, topic: str, also: Callable[[Any], None]) -> SubscriptionEventCallbacks:
        """What to hand over when a subscription of that topic is made; ``subscribed`` has to follow.

        ``also`` gets the event too.
        """

        def noticed(event: Any) -> None:
            self._suspects.add(topic)
            also(event)

        return SubscriptionEventCallbacks(incompatible_qos=noticed)

    def published(self, topic: str, offered: QoSProfile) -> None:
        """A publisher was made, overrides applied."""
        self._offered[topic] = offered

    def subscribed(self, topic: str, requested: QoSProfile) -> None:
        """A subscription was made, overrides applied."""
        self._requested[topic] = requested

    def troubles(self) -> list[str]:
        """Who gets nothing at present and why; what is new is logged as well."""
        found = [text for topic in sorted(self._suspects) for text in self._of(topic)]
        for text in found:
            if text not in self._told:
                self._node.get_logger().warning(text)
        self._told = set(found)
        return found

    def _of(self, topic: str) -> Iterator[str]:
        if topic in self._offered:
            for other in self._node.get_subscriptions_info_by_topic(topic):
                for policy, offered, requested in _disagreements(self._offered[topic], other.qos_profile):
                    yield (
                        f"{node_name(other)} gets nothing from {topic}: it asks for {policy} {requested}, offered is "
                        f"{offered}; change it there or by qos_overrides.{topic}.publisher.{policy}"
                    )
        if topic in self._requested:
            for other in self._node.get_publishers_info_by_topic(topic):
                for policy, offered, requested in _disagreements(other.qos_profile, self._requested[topic]):
                    yield (
                        f"nothing comes on {topic} from {node_name(other)}: it offers {policy} {offered}, asked for is "
                        f"{requested}; change it there or by qos_overrides.{topic}.subscription.{policy}"
                    )


def _disagreements(offered: QoSProfile, requested: QoSProfile) -> Iterator[tuple[str, str, str]]:
    """(policy, offered, requested) wherever less is offered than is asked for."""
    reliable, kept = ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL
    if requested.reliability == reliable and offered.reliability == ReliabilityPolicy.BEST_EFFORT:
        yield "reliability", "best_effort", "reliable"
    if requested.durability == kept and offered.durability == DurabilityPolicy.VOLATILE:
        yield "durability", "volatile", "transient_local"
    by_topic = LivelinessPolicy.MANUAL_BY_TOPIC
    if requested.liveliness == by_topic and offered.liveliness == LivelinessPolicy.AUTOMATIC:
        yield "liveliness", "automatic", "manual_by_topic"
    if 0 < requested.deadline.nanoseconds < offered.deadline.nanoseconds:
        yield "deadline", _seconds(offered.deadline.nanoseconds), _seconds(requested.deadline.nanoseconds)


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e9:g} s"


def node_name(endpoint: object) -> str:
    """Full name of the node that an endpoint of a topic belongs to."""
    namespace, name = endpoint.node_namespace, endpoint.node_name  # type: ignore[attr-defined]
    return _UNNAMED if name == _UNKNOWN else f"{namespace.rstrip('/')}/{name}"
