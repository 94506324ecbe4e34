"""A camera's subscription, which takes what its publishers offer."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

from rclpy.event_handler import QoSRequestedIncompatibleQoSInfo
from rclpy.node import Node
from rclpy.qos import QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import MessageInfo, Subscription

from tdnet_ros.node.qos_watch import QosWatch


class CameraSubscription:
    """Serialised messages of a topic, until ``destroy``; ``qos`` can be overridden by ROS's parameters.

    One that asks for reliable delivery gets nothing from a publisher that offers best effort. When there is such a
    publisher it asks for best effort as well, at the next ``adapt``. ``watch`` tells of other disagreements.
    """

    def __init__(
        self,
        node: Node,
        watch: QosWatch,
        message_type: type,
        topic: str,
        receive: Callable[[bytes, MessageInfo], None],
        qos: QoSProfile,
    ) -> None:
        self._node, self._watch, self._message_type, self._receive = node, watch, message_type, receive
        self._qos = copy(qos)  # overrides are written into it
        self._refused = False
        self._subscription: Subscription = self._subscribe(topic, QoSOverridingOptions.with_default_policies())
        self.topic: str = self._subscription.topic_name

    def adapt(self) -> None:
        """Subscribe anew where a publisher could not be had; not from within a callback of the subscription."""
        if not self._refused:
            return
        self._refused = False
        self._qos.reliability = ReliabilityPolicy.BEST_EFFORT
        self.destroy()
        self._subscription = self._subscribe(self.topic, None)
        self._node.get_logger().warning(
            f"a publisher of {self.topic} offers best effort only: what is lost on the way is not sent again"
        )

    def destroy(self) -> None:
        """Unsubscribe."""
        self._node.destroy_subscription(self._subscription)

    def _subscribe(self, topic: str, overriding: QoSOverridingOptions | None) -> Subscription:
        made: Subscription = self._node.create_subscription(
            self._message_type,
            topic,
            self._receive,
            self._qos,
            qos_overriding_options=overriding,
            event_callbacks=self._watch.subscription_events(topic, self._on_incompatible_qos),
            raw=True,
        )
        self._watch.subscribed(topic, self._qos)
        return made

    def _on_incompatible_qos(self, event: QoSRequestedIncompatibleQoSInfo) -> None:
        self._refused = event.last_policy_kind == QoSPolicyKind.RELIABILITY
