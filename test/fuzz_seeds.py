"""Valid bytes for the fuzzer to change, as small as they can be."""

from __future__ import annotations

import struct

import cv2
import numpy as np

from tdnet_ros.video.encoding import encode_packets
from tdnet_ros.video.messages import encodings
from tdnet_ros.video.messages.cdr import serialize_image

#: Of images that the node takes.
ENCODINGS = (*encodings.VIEWED, *encodings.CONVERTED)


def image_cdrs() -> list[bytes]:
    """Images of 8x6 in every encoding."""
    seeds = []
    for name in ENCODINGS:
        layout = encodings.CONVERTED.get(name)
        pixel = layout.pixel_bytes if layout else 1 if encodings.VIEWED[name] == "mono8" else 3
        rows = int(6 * (layout.rows if layout else 1))
        # Planar formats carry more rows than the height says: serialised as a taller image, then named by its own.
        message = bytearray(serialize_image(1, 2, "cam", rows, 8, name, 8 * pixel, bytes(8 * pixel * rows)))
        message[20:24] = struct.pack("<I", 6)
        seeds.append(bytes(message))
    return seeds


def noise(height: int = 16, width: int = 16) -> np.ndarray:
    """Colours (H, W, 3)."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def jpeg_pictures() -> list[bytes]:
    """Baseline, progressive, with restarts, of full colour, grey."""
    smooth = cv2.resize(noise(3, 4), (24, 16))
    ways: list[list[int]] = [
        [],
        [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
        [cv2.IMWRITE_JPEG_RST_INTERVAL, 1],
        [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444],
    ]
    pictures = [bytes(cv2.imencode(".jpg", smooth, way)[1]) for way in ways]
    return [*pictures, bytes(cv2.imencode(".jpg", smooth[..., 0])[1])]


def png_picture() -> bytes:
    """Of noise, so that its data are longer than its headers."""
    return bytes(cv2.imencode(".png", noise())[1])


def compressed_cdr(data: bytes, image_format: bytes = b"jpeg\0") -> bytes:
    """A serialised sensor_msgs/CompressedImage."""
    message = b"\0\1\0\0" + struct.pack("<iII4sI", 1, 2, 4, b"cam\0", len(image_format)) + image_format
    return message + bytes(-len(message) % 4) + struct.pack("<I", len(data)) + data


def video_stream() -> list[bytes]:
    """Two groups of three H.264 pictures, one packet each."""
    images = [np.roll(cv2.resize(noise(6, 8), (64, 48)), 3 * index, axis=1) for index in range(6)]
    return list(encode_packets(images, gop=3))
