"""What the segmentation node publishes for a frame."""

from __future__ import annotations

from copy import copy
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, Image

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.labels import LabelSet
from tdnet_ros.msg import FrameLatency
from tdnet_ros.node import transport
from tdnet_ros.node.inputs import Stamped
from tdnet_ros.node.interfaces import interface
from tdnet_ros.node.qos_watch import QosWatch
from tdnet_ros.video.frame import Frame
from tdnet_ros.video.messages.cdr import serialize_image

Plane = npt.NDArray[np.uint8]


class Outputs:
    """One camera's publishers; ``prefix`` begins their names.

    Confidence and overlay cost nothing while nobody listens. ``label_info`` stays away where its message type is not
    installed; the log says so.
    """

    def __init__(self, node: LifecycleNode, watch: QosWatch, labels: LabelSet, prefix: str = "") -> None:
        self._node = node
        self._watch = watch
        self._prefix = prefix
        self._labels = labels
        self._palette = labels.palette
        self._publishers: list[Any] = []
        self._mask = self._publisher(Image, "mask", transport.MASK)
        self._latency = self._publisher(FrameLatency, "latency", transport.MASK)
        self._confidence = self._publisher(Image, "confidence", transport.MASK)
        self._overlay = self._publisher(Image, "overlay", transport.OVERLAY)
        self._camera_info = self._publisher(CameraInfo, "camera_info", transport.MASK)
        self._label_info: Any = None
        try:
            self._label_info = self._publisher(interface("vision_msgs", "LabelInfo"), "label_info", transport.LATCHED)
        except ConfigurationError as error:
            node.get_logger().warning(f"label_info is not published: {error}", once=True)

    @property
    def wants_confidence(self) -> bool:
        """Whether somebody listens to the confidence."""
        return self._confidence.get_subscription_count() > 0

    @property
    def wants_camera_info(self) -> bool:
        """Whether somebody listens to the calibration."""
        return self._camera_info.get_subscription_count() > 0

    def publish_labels(self, min_confidence: float) -> None:
        """The names of the classes, for those who listen and those to come. Before the first mask."""
        if self._label_info is None:
            return
        vision_class = interface("vision_msgs", "VisionClass")
        message = self._label_info.msg_type(threshold=min_confidence)
        message.header.stamp = self._node.get_clock().now().to_msg()
        names = self._labels.names[: self._labels.shown]
        message.class_map = [vision_class(class_id=index, class_name=name) for index, name in enumerate(names)]
        self._label_info.publish(message)

    def publish_mask(self, header: Stamped, mask: Plane) -> None:
        """The mask with the input's header verbatim, handed over as serialised bytes: one copy of the pixels."""
        self._mask.publish(_mono8(header, mask))

    def publish_camera_info(self, info: CameraInfo) -> None:
        """The calibration that belongs to a mask."""
        self._camera_info.publish(info)

    def publish_latency(self, message: FrameLatency) -> None:
        """One per mask."""
        self._latency.publish(message)

    def publish_extras(
        self, header: Stamped, frame: Frame, mask: Plane, confidence: Plane | None, opacity: float
    ) -> None:
        """Confidence and overlay, for those who listen; after the mask, which must not wait for them."""
        if confidence is not None and self.wants_confidence:
            self._confidence.publish(_mono8(header, confidence))
        if self._overlay.get_subscription_count() > 0:
            image = self._blend(frame, mask, opacity)
            height, width = mask.shape
            stamp = header.sec, header.nanosec, header.frame_id
            self._overlay.publish(serialize_image(*stamp, height, width, "rgb8", 3 * width, image))

    def destroy(self) -> None:
        """Take the publishers off the node."""
        for publisher in self._publishers:
            self._node.destroy_lifecycle_publisher(publisher)

    def _publisher(self, message_type: type, name: str, profile: QoSProfile) -> Any:
        topic = self._node.resolve_topic_name(self._prefix + name)
        publisher = self._node.create_lifecycle_publisher(
            message_type,
            self._prefix + name,
            copy(profile),  # overrides are written into it
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            event_callbacks=self._watch.publisher_events(topic),
        )
        self._watch.published(topic, publisher.qos_profile)
        self._publishers.append(publisher)
        return publisher

    def _blend(self, frame: Frame, mask: Plane, opacity: float) -> Plane:
        """RGB of the mask's size: the picture with the classes' colours laid over it."""
        if frame.encoding == "mono8":
            picture = cv2.cvtColor(frame.image, cv2.COLOR_GRAY2RGB)
        elif frame.encoding == "bgr8":
            picture = cv2.cvtColor(frame.image, cv2.COLOR_BGR2RGB)
        else:
            picture = np.ascontiguousarray(frame.image)
        if picture.shape[:2] != mask.shape:
            picture = cv2.resize(picture, mask.shape[::-1], interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.addWeighted(self._palette[mask], opacity, picture, 1 - opacity, 0), np.uint8)


def _mono8(header: Stamped, values: Plane) -> bytes:
    height, width = values.shape
    return serialize_image(header.sec, header.nanosec, header.frame_id, height, width, "mono8", width, values)
