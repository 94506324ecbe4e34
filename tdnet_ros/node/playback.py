"""Images of a source as messages of a camera: all but the stamp is prepared before the image is due."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from tdnet_ros.errors import DecodeError
from tdnet_ros.video.frame import Frame
from tdnet_ros.video.image_source import CompressedPicture, ImageSource, SourceImage, StoredMessage
from tdnet_ros.video.messages.cdr import serialize_image
from tdnet_ros.video.source_frames import frame_of

_TO_OTHER_ORDER = {
    ("rgb8", "bgr8"): cv2.COLOR_RGB2BGR,
    ("bgr8", "rgb8"): cv2.COLOR_BGR2RGB,
    ("mono8", "bgr8"): cv2.COLOR_GRAY2BGR,
    ("mono8", "rgb8"): cv2.COLOR_GRAY2RGB,
}


@dataclass(frozen=True)
class Outgoing:
    """One image that is ready to go at ``time_ns`` of the playback's timeline.

    ``message`` makes what rclpy publishes out of the header's stamp in ns. With ``stamp_ns``, the original one, a
    stored message stays as it is to the last byte. ``ahead_ns``: what it shows lies so much later on the source's
    timeline than its place in the order of sending, where pictures are coded in another order than they are shown in.
    """

    index: int
    time_ns: int
    stamp_ns: int
    message: Callable[[int], Any]
    ahead_ns: int = 0


class Camera:
    """Turns the images of a source into messages of one kind: raw, or JPEG (PNG files stay PNG)."""

    def __init__(self, source: ImageSource, transport: str, encoding: str, frame_id: str, jpeg_quality: int) -> None:
        self.compressed = source.compressed if transport == "auto" else transport == "compressed"
        self.message_type, self.suffix = (CompressedImage, "/compressed") if self.compressed else (Image, "")
        self._source = source
        self._encoding = encoding
        self._frame_id = frame_id
        self._jpeg_quality = jpeg_quality

    def images(self, duration_s: float = 0.0, loop: bool = False) -> Iterator[Outgoing]:
        """The images; of the first ``duration_s`` seconds only, unless that is 0; for ever if ``loop``."""
        lap_start_ns, last_ns = 0, 0
        while True:
            for image in self._source:
                if duration_s and image.time_ns >= duration_s * 1e9:
                    break
                last_ns = lap_start_ns + image.time_ns
                yield Outgoing(image.index, last_ns, image.stamp_ns, self._message(image))
            if not loop:
                return
            lap_start_ns = last_ns + round(1e9 / self._source.rate_hz)

    def _message(self, image: SourceImage) -> Callable[[int], bytes | CompressedImage]:
        content = image.content
        if isinstance(content, StoredMessage) and self._source.compressed == self.compressed:
            return partial(_restamped, content.cdr, image.stamp_ns)
        if isinstance(content, CompressedPicture) and self.compressed:
            return partial(_compressed, content.data, content.format, self._frame_id)
        frame = frame_of(image)
        frame_id = frame.source or self._frame_id
        if not self.compressed:
            return partial(_raw, _in_order(frame, self._encoding), self._encoding, frame_id)
        done, jpeg = cv2.imencode(".jpg", _in_order(frame, "bgr8"), [cv2.IMWRITE_JPEG_QUALITY, self._jpeg_quality])
        if not done:
            raise DecodeError(f"image {image.index} ({frame.width}x{frame.height}) cannot be compressed to JPEG")
        return partial(_compressed, jpeg.tobytes(), "jpeg", frame_id)


def _in_order(frame: Frame, encoding: str) -> np.ndarray:
    """The frame's pixels (H, W, 3) in the channel order of ``encoding``, contiguous."""
    if frame.encoding == encoding:
        return np.ascontiguousarray(frame.image)
    return cv2.cvtColor(frame.image, _TO_OTHER_ORDER[frame.encoding, encoding])


def _raw(image: np.ndarray, encoding: str, frame_id: str, stamp_ns: int) -> bytes:
    height, width = image.shape[:2]
    return serialize_image(*divmod(stamp_ns, 1_000_000_000), frame_id, height, width, encoding, 3 * width, image)


def _compressed(data: bytes, image_format: str, frame_id: str, stamp_ns: int) -> CompressedImage:
    message = CompressedImage(format=image_format, data=data)
    message.header.frame_id = frame_id
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
    return message


def _restamped(cdr: bytes, original_ns: int, stamp_ns: int) -> bytes:
    """The stored message with another stamp in its header, in the message's own byte order."""
    if stamp_ns == original_ns:
        return cdr
    stamp = struct.pack("<iI" if cdr[1] & 1 else ">iI", *divmod(stamp_ns, 1_000_000_000))
    return b"".join((cdr[:4], stamp, memoryview(cdr)[12:]))
