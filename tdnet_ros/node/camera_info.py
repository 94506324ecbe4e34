"""The camera's calibration beside its masks: passed on with each, for the mask's size."""

from __future__ import annotations

from copy import copy, deepcopy

from rclpy.node import Node
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, RegionOfInterest
from std_msgs.msg import Header

from tdnet_ros.errors import ImageError
from tdnet_ros.node import transport
from tdnet_ros.video.messages.types import CAMERA_INFO_TYPE, parsed, typestore

#: Entries of the row-major matrices that are px along x and along y.
_K_X, _K_Y = (0, 1, 2), (3, 4, 5)
_P_X, _P_Y = (0, 1, 2, 3), (4, 5, 6, 7)


class Calibration:
    """What a camera says of itself, from ``start`` to ``stop``: by image_transport's convention ``camera_info`` beside
    the image. Where that is the name of our own output there is nothing to pass on.
    """

    def __init__(self, node: Node, image_topic: str, own_topic: str) -> None:
        self._node = node
        self.topic = f"{image_topic.rpartition('/')[0]}/camera_info"
        self._is_own = self.topic == own_topic
        self._newest: bytes | None = None
        self._subscription: Subscription | None = None

    def start(self) -> None:
        """Subscribe; what went before is forgotten."""
        self._newest = None
        if not self._is_own:
            self._subscription = self._node.create_subscription(
                CameraInfo,
                self.topic,
                self._receive,
                copy(transport.IMAGE_INPUT),  # overrides are written into it
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
                raw=True,
            )

    def stop(self) -> None:
        """Unsubscribe."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def of_mask(self, header: Header, scale_x: float, scale_y: float) -> CameraInfo | None:
        """The calibration of a mask with that header, of so many times the image's columns and rows.

        None where none has come. Raises ImageError for one that is no CameraInfo.
        """
        if self._newest is None:
            return None
        return scaled(camera_info(self._newest), header, scale_x, scale_y)

    def _receive(self, info: bytes) -> None:
        if self._newest is None:
            typestore()  # takes 0.2 s once, for which no mask should wait later
        self._newest = info  # as it came: most are never asked for


def camera_info(message: bytes) -> CameraInfo:
    """A serialised sensor_msgs/CameraInfo without its header; raises ImageError.

    Not by rclpy, which ends the process at some damaged messages.
    """
    read = parsed(message, CAMERA_INFO_TYPE, ImageError)
    plain = ("height", "width", "distortion_model", "binning_x", "binning_y")
    info = CameraInfo(**{name: getattr(read, name) for name in plain})
    for name in ("d", "k", "r", "p"):
        setattr(info, name, getattr(read, name).tolist())
    of_roi = ("x_offset", "y_offset", "height", "width", "do_rectify")
    info.roi = RegionOfInterest(**{name: getattr(read.roi, name) for name in of_roi})
    return info


def scaled(info: CameraInfo, header: Header, scale_x: float, scale_y: float) -> CameraInfo:
    """The calibration of the picture sampled to that share of its columns and rows, as image_proc's resize has it."""
    result = deepcopy(info)
    result.header = header
    result.width, result.height = round(info.width * scale_x), round(info.height * scale_y)
    for matrix, along_x, along_y in ((result.k, _K_X, _K_Y), (result.p, _P_X, _P_Y)):
        for index in along_x:
            matrix[index] *= scale_x
        for index in along_y:
            matrix[index] *= scale_y
    roi = result.roi
    roi.x_offset, roi.width = round(info.roi.x_offset * scale_x), round(info.roi.width * scale_x)
    roi.y_offset, roi.height = round(info.roi.y_offset * scale_y), round(info.roi.height * scale_y)
    return result
