"""What the segmentation node publishes for a frame."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from rclpy.lifecycle import LifecycleNode
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image

from tdnet_ros.labels import LabelSet
from tdnet_ros.msg import FrameLatency
from tdnet_ros.node import transport
from tdnet_ros.node.cdr import serialize_image
from tdnet_ros.node.inputs import Stamped
from tdnet_ros.streaming import Segmentation
from tdnet_ros.video.frame import Frame


class Outputs:
    """One camera's publishers; ``prefix`` begins their names.

    Confidence and overlay cost nothing while nobody listens.
    """

    def __init__(self, node: LifecycleNode, labels: LabelSet, prefix: str = "") -> None:
        overriding = QoSOverridingOptions.with_default_policies()

        def publisher(message_type: type, name: str, profile: object) -> object:
            return node.create_lifecycle_publisher(
                message_type, prefix + name, profile, qos_overriding_options=overriding
            )

        self._node = node
        self._palette = labels.palette
        self._mask = publisher(Image, "mask", transport.MASK)
        self._latency = publisher(FrameLatency, "latency", transport.MASK)
        self._confidence = publisher(Image, "confidence", transport.MASK)
        self._overlay = publisher(Image, "overlay", transport.OVERLAY)

    @property
    def wants_confidence(self) -> bool:
        """Whether somebody listens to the confidence."""
        return self._confidence.get_subscription_count() > 0

    def publish_mask(self, header: Stamped, result: Segmentation) -> None:
        """The mask with the input's header verbatim, handed over as serialised bytes: one copy of the pixels."""
        self._mask.publish(_mono8(header, result.mask))

    def publish_extras(self, header: Stamped, frame: Frame, result: Segmentation, opacity: float) -> None:
        """Confidence and overlay, for those who listen; after the mask, which must not wait for them."""
        if result.confidence is not None and self.wants_confidence:
            self._confidence.publish(_mono8(header, result.confidence))
        if self._overlay.get_subscription_count() > 0:
            image = self._blend(frame, result.mask, opacity)
            height, width = result.mask.shape
            self._overlay.publish(
                serialize_image(header.sec, header.nanosec, header.frame_id, height, width, "rgb8", 3 * width, image)
            )

    def publish_latency(self, message: FrameLatency) -> None:
        """One per mask."""
        self._latency.publish(message)

    def destroy(self) -> None:
        """Take the publishers off the node."""
        for publisher in (self._mask, self._latency, self._confidence, self._overlay):
            self._node.destroy_lifecycle_publisher(publisher)

    def _blend(self, frame: Frame, mask: npt.NDArray[np.uint8], opacity: float) -> npt.NDArray[np.uint8]:
        """RGB (H, W, 3): the picture with the classes' colours laid over it."""
        if frame.encoding == "mono8":
            picture = cv2.cvtColor(frame.image, cv2.COLOR_GRAY2RGB)
        elif frame.encoding == "bgr8":
            picture = cv2.cvtColor(frame.image, cv2.COLOR_BGR2RGB)
        else:
            picture = np.ascontiguousarray(frame.image)
        return np.asarray(cv2.addWeighted(self._palette[mask], opacity, picture, 1 - opacity, 0), np.uint8)


def _mono8(header: Stamped, values: npt.NDArray[np.uint8]) -> bytes:
    height, width = values.shape
    return serialize_image(header.sec, header.nanosec, header.frame_id, height, width, "mono8", width, values)
