"""Compressed pictures to pixels: a whole picture or DecodeError, never a part of one or of the one before."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.errors import DecodeError
from tdnet_ros.video import jpeg

#: Largest declared width or height, and largest area, that is decoded: a few bytes can declare gigabytes.
MAX_SIDE = 16384
MAX_PIXELS = 1 << 26

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNK = struct.Struct(">I4s")
# Calibration belongs to the sensor's own orientation, so an EXIF tag must not turn the frame.
_READ_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


def decode_image(data: bytes | memoryview, image_format: str = "") -> npt.NDArray[np.uint8]:
    """Decode a JPEG or PNG to BGR (H, W, 3) uint8 in memory of its own.

    The payload's first bytes decide what it is, because drivers write ``image_format`` ("jpeg", "png", "rgb8;
    jpeg compressed bgr8") in many ways; it only appears in errors. Grey pictures come out with three equal
    channels, 16-bit PNGs with 8 bits, alpha is dropped and EXIF orientation ignored.

    Raises DecodeError when the payload is neither, declares more than MAX_SIDE or MAX_PIXELS, or is
    incomplete. JPEG's data carries no checksum, so two faults pass: damage inside a sequential scan that
    still fills the picture, and a cut within the last 16x16 pixels that an end marker closes.
    """
    payload = memoryview(data).cast("B")
    if payload[:3] == jpeg.SIGNATURE:
        return _decode_jpeg(payload, image_format)
    if payload[:8] == _PNG_SIGNATURE:
        width, height = _png_size(payload)
        return _decode(payload, width, height, "PNG", image_format)
    start = bytes(payload[:8]).hex(" ") or "no bytes"
    expected = "JPEG (ff d8 ff) or PNG (89 50 4e 47)"
    raise DecodeError(f"{_payload_name(image_format)} starts with {start}, expected {expected}")


def _decode_jpeg(payload: memoryview, image_format: str) -> npt.NDArray[np.uint8]:
    layout = jpeg.read_layout(payload, MAX_SIDE, MAX_PIXELS)
    payload = payload[: layout.size]
    image = _decode(payload, layout.width, layout.height, "JPEG", image_format)
    # libjpeg leaves what it has no data for at exact mid-grey. A second, strict decoder settles whether that
    # is the scene's own grey; a progressive picture that was cut shows no grey at all, only less detail.
    if layout.progressive or (image[-1, -8:] == 128).all():
        _require_intact(payload, image_format)
    return image


def _decode(payload: memoryview, width: int, height: int, kind: str, image_format: str) -> npt.NDArray[np.uint8]:
    try:
        image = cv2.imdecode(np.frombuffer(payload, np.uint8), _READ_FLAGS)
    except cv2.error as error:
        raise DecodeError(f"{_payload_name(image_format)} fails in OpenCV's {kind} decoder: {error.err}") from error
    if image is None or image.shape != (height, width, 3) or image.dtype != np.uint8:
        result = "nothing" if image is None else f"{image.dtype} {image.shape}"
        expected = f"uint8 {(height, width, 3)}"
        raise DecodeError(f"{_payload_name(image_format)} decodes to {result}, expected {expected} from its {kind}")
    return np.asarray(image, np.uint8)


def _require_intact(payload: memoryview, image_format: str) -> None:
    """Decode once more with FFmpeg, which stops at the first inconsistency where libjpeg goes on."""
    import av  # a third of a second, and few streams ever need it

    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.options = {"err_detect": "explode"}
    try:
        decoder.decode(av.Packet(bytes(payload)))
        decoder.decode(None)
    except av.error.InvalidDataError as error:
        name = _payload_name(image_format)
        raise DecodeError(f"{name}, a JPEG of {len(payload)} bytes, lacks or has broken scan data") from error
    except av.error.FFmpegError:
        return  # a layout that FFmpeg does not know says nothing about damage


def _payload_name(image_format: str) -> str:
    return f"compressed image of format {image_format[:60]!r}"  # it comes from the network: of any length


def _png_size(payload: memoryview) -> tuple[int, int]:
    """Declared (width, height) of a PNG whose chunks are all there with the right checksums."""
    position, has_pixels = len(_PNG_SIGNATURE), False
    size: tuple[int, int] | None = None
    while True:
        left = len(payload) - position
        length, name = _PNG_CHUNK.unpack_from(payload, position) if left >= _PNG_CHUNK.size else (0, b"")
        end = position + 8 + length
        if not name or end + 4 > len(payload):
            raise DecodeError(f"PNG of {len(payload)} bytes ends within a chunk, expected IEND: it is truncated")
        if zlib.crc32(payload[position + 4 : end]) != int.from_bytes(payload[end : end + 4], "big"):
            raise DecodeError(f"PNG chunk {name!r} of {length} bytes has a wrong checksum")
        if (size is None) != (name == b"IHDR") or (name == b"IHDR" and length != 13):
            raise DecodeError(f"PNG has chunk {name!r} of {length} bytes, expected one IHDR of 13 bytes, first")
        if size is None:
            width, height = size = struct.unpack_from(">II", payload, position + 8)
            jpeg.check_size("PNG", width, height, MAX_SIDE, MAX_PIXELS)
        has_pixels = has_pixels or name == b"IDAT"
        if name == b"IEND":
            if not has_pixels:
                raise DecodeError("PNG has no IDAT chunk, expected at least one")
            return size
        position = end + 4
