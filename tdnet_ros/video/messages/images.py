"""Serialised image messages to frames: without a copy where the engine takes the pixels as they are.

The way of a received message is ``to_frame(image_view(message))``, or with ``compressed_`` before both names.
Masks go out through tdnet_ros.video.messages.cdr.serialize_image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tdnet_ros.errors import DecodeError, ImageError
from tdnet_ros.video.decoding import decode_image
from tdnet_ros.video.frame import Frame
from tdnet_ros.video.messages import encodings
from tdnet_ros.video.messages.cdr import (
    CompressedView,
    ImageView,
    is_little_endian_cdr,
    view_compressed,
    view_image,
)
from tdnet_ros.video.messages.types import COMPRESSED_TYPE, IMAGE_TYPE, parsed

if TYPE_CHECKING:
    from typing_extensions import Buffer

#: Makes (pixels, encoding) of an image that cannot be viewed: uint8 (H, W, 3) rgb8 or bgr8, or (H, W) mono8.
Converter = Callable[[ImageView], tuple[npt.NDArray[np.uint8], str]]


def image_view(message: Buffer) -> ImageView:
    """View a serialised sensor_msgs/Image; raises ImageError.

    A big-endian sender's goes through rosbags' parser. rclpy's would take it too, but that one ends the process at
    some damaged messages.
    """
    if is_little_endian_cdr(message):
        return view_image(message)
    image = parsed(message, IMAGE_TYPE, ImageError)
    stamp = image.header.stamp
    size = (image.height, image.width, image.encoding, image.is_bigendian, image.step)
    return ImageView(stamp.sec, stamp.nanosec, image.header.frame_id, *size, memoryview(image.data))


def compressed_view(message: Buffer) -> CompressedView:
    """View a serialised sensor_msgs/CompressedImage as image_view does; raises DecodeError."""
    if is_little_endian_cdr(message):
        return view_compressed(message)
    image = parsed(message, COMPRESSED_TYPE, DecodeError)
    stamp = image.header.stamp
    return CompressedView(stamp.sec, stamp.nanosec, image.header.frame_id, image.format, memoryview(image.data))


def to_frame(view: ImageView, convert: Converter = encodings.convert) -> Frame:
    """The image as a frame: rgb8, bgr8, mono8, 8UC1 and 8UC3 share the message's memory, rows may be padded.

    All others are converted to rgb8, bgr8 or mono8. Raises ImageError for an unknown encoding, one that holds no
    picture, or when size, step and data don't fit each other. A zero stamp, which ROS reads as unset, becomes None.
    """
    encoding = view.encoding
    result = encodings.VIEWED.get(encoding)
    image: npt.NDArray[np.uint8]
    if result is None:
        image, result = convert(view)
    else:
        channels = 1 if result == "mono8" else 3
        encodings.require_size(view, channels)
        height, width, step = view.height, view.width, view.step
        if channels == 1:
            image = np.ndarray((height, width), np.uint8, view.data, strides=(step, 1))
        else:
            image = np.ndarray((height, width, 3), np.uint8, view.data, strides=(step, 3, 1))
    return Frame(image, view.stamp_ns or None, result, view.frame_id, encoding)


def compressed_to_frame(view: CompressedView) -> Frame:
    """Decode a JPEG or PNG to a bgr8 frame in memory of its own.

    Raises DecodeError for anything less than a whole one. A zero stamp becomes None, as in to_frame.
    """
    image = decode_image(view.data, view.format)
    return Frame(image, view.stamp_ns or None, "bgr8", view.frame_id, view.format)
