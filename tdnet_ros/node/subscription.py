"""A camera's subscription, which takes what its publishers offer."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

from rclpy.event_handler import QoSRequestedIncompatibleQoSInfo, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import MessageInfo, Subscription


class CameraSubscription:
    """Serialised messages of a topic, until ``destroy``; ``qos`` can be overridden by ROS's parameters.

    One that asks for reliable delivery gets nothing from a publisher that offers best effort. When there is such a
    publisher it asks for best effort as well, at the next ``adapt``.
    """

    def __init__(
        self, node: Node, message_type: type, topic: str, receive: Callable[[bytes, MessageInfo], None], qos: QoSProfile
    ) -> None:
        self._node, self._message_type, self._receive = node, message_type, receive
        self._qos = copy(qos)  # overrides are written into it
        self._refused = False
        self._subscription: Subscription = node.create_subscription(
            message_type,
            topic,
            receive,
            self._qos,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=self._on_incompatible_qos),
            raw=True,
        )
        self.topic: str = self._subscription.topic_name

    def adapt(self) -> None:
        """Subscribe anew where a publisher could not be had; not from within a callback of the subscription."""
        if not self._refused:
            return
        self._refused = False
        self._qos.reliability = ReliabilityPolicy.BEST_EFFORT
        self.destroy()
        self._subscription = self._node.create_subscription(
            self._message_type, self.topic, self._receive, self._qos, raw=True
        )
        self._node.get_logger().warning(
            f"a publisher of {self.topic} offers best effort only: what is lost on the way is not sent again"
        )

    def destroy(self) -> None:
        """Unsubscribe."""
        self._node.destroy_subscription(self._subscription)

    def _on_incompatible_qos(self, event: QoSRequestedIncompatibleQoSInfo) -> None:
        if event.last_policy_kind == QoSPolicyKind.RELIABILITY:
            self._refused = True
        else:
            policy = QoSPolicyKind(event.last_policy_kind).name.lower()
            self._node.get_logger().warning(
                f"a publisher of {self.topic} offers another {policy} than the subscription asks for: no images from "
                f"it; change qos_overrides.{self.topic}.subscription.{policy}"
            )
