"""ROS image messages to frames: without a copy where the engine takes the pixels as they are.

The way of a received message is ``to_frame(image_view(message))``, or with ``compressed_`` before both names,
from the bytes of a raw subscription. Masks go out through tdnet_ros.node.cdr.serialize_image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tdnet_ros.errors import DecodeError, ImageError, TdnetRosError
from tdnet_ros.node import bridge, encodings
from tdnet_ros.node.cdr import (
    CompressedView,
    ImageView,
    is_little_endian_cdr,
    view_compressed,
    view_image,
)
from tdnet_ros.video.decoding import decode_image
from tdnet_ros.video.frame import Frame

if TYPE_CHECKING:
    from typing_extensions import Buffer

_ENCAPSULATION_BYTES = 4


def image_view(message: Buffer) -> ImageView:
    """View a serialised sensor_msgs/Image of any encapsulation that the middleware knows; raises ImageError.

    Anything but little-endian CDR, such as a big-endian sender's, takes rclpy's way, which copies the pixels.
    """
    if is_little_endian_cdr(message):
        return view_image(message)
    from sensor_msgs.msg import Image

    image = _deserialise(message, Image, ImageError)
    stamp, data = image.header.stamp, memoryview(image.data).cast("B")
    size = (image.height, image.width, image.encoding, image.is_bigendian, image.step)
    return ImageView(stamp.sec, stamp.nanosec, image.header.frame_id, *size, data)


def compressed_view(message: Buffer) -> CompressedView:
    """View a serialised sensor_msgs/CompressedImage as image_view does; raises DecodeError."""
    if is_little_endian_cdr(message):
        return view_compressed(message)
    from sensor_msgs.msg import CompressedImage

    image = _deserialise(message, CompressedImage, DecodeError)
    stamp, data = image.header.stamp, memoryview(image.data).cast("B")
    return CompressedView(stamp.sec, stamp.nanosec, image.header.frame_id, image.format, data)


def to_frame(view: ImageView) -> Frame:
    """The image as a frame: rgb8, bgr8, mono8, 8UC1 and 8UC3 share the message's memory, rows may be padded.

    All others are converted to rgb8, bgr8 or mono8, by the ROS distribution's cv_bridge where it can be
    trusted with them, else by OpenCV. Raises ImageError for an unknown encoding, one that holds no picture,
    or when size, step and data don't fit each other. A zero stamp, which ROS reads as unset, becomes None.
    """
    encoding = view.encoding
    result = encodings.VIEWED.get(encoding)
    if result is not None:
        channels = 1 if result == "mono8" else 3
        encodings.require_size(view, channels)
        height, width, step = view.height, view.width, view.step
        image: np.ndarray[Any, np.dtype[np.uint8]]
        if channels == 1:
            image = np.ndarray((height, width), np.uint8, view.data, strides=(step, 1))
        else:
            image = np.ndarray((height, width, 3), np.uint8, view.data, strides=(step, 3, 1))
    else:
        image, result = _converted(view)
    return Frame(image, view.stamp_ns or None, result, view.frame_id, encoding)


def converter_of(encoding: str) -> str:
    """Who converts images of this encoding: "view" (nobody), "cv_bridge" or "OpenCV"."""
    if encoding in encodings.VIEWED:
        return "view"
    known = encoding in encodings.CONVERTED
    return "OpenCV" if known and not bridge.is_trusted_with(encoding) else "cv_bridge"


def compressed_to_frame(view: CompressedView) -> Frame:
    """Decode a JPEG or PNG to a bgr8 frame in memory of its own.

    Raises DecodeError for anything less than a whole one. A zero stamp becomes None, as in to_frame.
    """
    image = decode_image(view.data, view.format)
    return Frame(image, view.stamp_ns or None, "bgr8", view.frame_id, view.format)


def _converted(view: ImageView) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], str]:
    """(image, native encoding)."""
    layout = encodings.CONVERTED.get(view.encoding)
    if layout is not None:
        if bridge.is_trusted_with(view.encoding):
            return bridge.convert(view, layout.result), layout.result
        return encodings.convert(view, layout), layout.result
    if encodings.MEASUREMENT.fullmatch(view.encoding) is None and bridge.distribution_bridge() is not None:
        return bridge.convert(view, "rgb8"), "rgb8"
    raise encodings.refusal(view.encoding)


def _deserialise(message: Buffer, message_type: type, error: type[TdnetRosError]) -> Any:
    from rclpy.serialization import deserialize_message

    received = bytes(message)
    start = received[:_ENCAPSULATION_BYTES].hex(" ") or "no bytes"
    text = f"message of {len(received)} bytes starts with {start}, expected a serialised {message_type.__name__}"
    # Fast CDR takes the number of padding bytes from the encapsulation's last bits and subtracts it from the length
    # without a look: with fewer bytes than that it reads on behind the message until the process ends.
    if len(received) < _ENCAPSULATION_BYTES or len(received) - _ENCAPSULATION_BYTES < received[3] & 3:
        raise error(text)
    try:
        return deserialize_message(received, message_type)
    except Exception as reason:  # RMWError, or what else an implementation makes of broken bytes
        raise error(text) from reason
