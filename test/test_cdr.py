"""Serialised images: our parser and writer against rclpy's, and against bytes that nobody should send."""

from __future__ import annotations

import contextlib
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdnet_ros.errors import DecodeError, ImageError, TdnetRosError
from tdnet_ros.video.messages.cdr import (
    is_little_endian_cdr,
    peek_header,
    serialize_image,
    view_compressed,
    view_image,
)

HOSTILE = settings(max_examples=200, derandomize=True, deadline=None)
# All residues of the length modulo 4, which decide where the next field lies; then what UTF-8 does to it.
FRAME_IDS = ["", "a", "ab", "cam", "left", "front", "caméra", "カメラ", "camera_front_optical_frame"]
ENCODINGS = ["", "rgb8", "mono8", "16UC1", "mono16", "bayer_rggb8", "yuv422_yuy2"]


def image_bytes(frame_id: str = "cam", encoding: str = "rgb8") -> bytes:
    return serialize_image(7, 8, frame_id, 2, 3, encoding, 9, bytes(range(18)))


def padding_positions(frame_id: str, encoding: str) -> set[int]:
    """Where the format leaves bytes undefined: rclpy sends there whatever its memory held."""
    frame_end = 16 + len(frame_id.encode()) + 1
    size_start = frame_end + -frame_end % 4
    endian = size_start + 12 + len(encoding.encode()) + 1
    return {*range(frame_end, size_start), *range(endian + 1, endian + 1 + -(endian + 1) % 4)}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("frame_id", FRAME_IDS)
def test_image_reads_and_writes_as_rclpy_does(frame_id: str, encoding: str) -> None:
    serialization = pytest.importorskip("rclpy.serialization", reason="rclpy is not installed")
    from sensor_msgs.msg import Image

    message = Image(height=2, width=3, encoding=encoding, is_bigendian=1, step=9, data=bytes(range(18)))
    message.header.frame_id = frame_id
    message.header.stamp.sec, message.header.stamp.nanosec = -5, 999_999_999
    reference = serialization.serialize_message(message)

    view = view_image(reference)
    assert (*view[:-1], bytes(view.data)) == (
        -5, 999_999_999, frame_id, 2, 3, encoding, 1, 9, bytes(range(18)),
    )  # fmt: skip
    assert peek_header(reference) == (-5, 999_999_999, frame_id)

    own = serialize_image(-5, 999_999_999, frame_id, 2, 3, encoding, 9, bytes(range(18)), is_bigendian=True)
    padding = padding_positions(frame_id, encoding)
    assert len(own) == len(reference)
    assert all(own[i] == reference[i] for i in range(len(own)) if i not in padding)
    assert all(own[i] == 0 for i in padding)
    assert serialization.deserialize_message(own, Image) == message


@pytest.mark.parametrize("image_format", ["", "png", "jpeg", "rgb8; jpeg compressed bgr8"])
@pytest.mark.parametrize("frame_id", FRAME_IDS)
def test_compressed_image_reads_as_rclpy_wrote_it(frame_id: str, image_format: str) -> None:
    serialization = pytest.importorskip("rclpy.serialization", reason="rclpy is not installed")
    from sensor_msgs.msg import CompressedImage

    message = CompressedImage(format=image_format, data=b"\xff\xd8payload")
    message.header.frame_id = frame_id
    message.header.stamp.sec, message.header.stamp.nanosec = 2**31 - 1, 5
    view = view_compressed(serialization.serialize_message(message))
    assert (*view[:-1], bytes(view.data)) == (2**31 - 1, 5, frame_id, image_format, b"\xff\xd8payload")


def test_strings_end_and_decode_as_in_rclpy() -> None:
    serialization = pytest.importorskip("rclpy.serialization", reason="rclpy is not installed")
    from sensor_msgs.msg import Image

    for frame_id in (b"a\0bc\0", b"ca\xff\xfe\0", b"open", b""):
        header = struct.pack("<iII", 1, 2, len(frame_id)) + frame_id + bytes(-len(frame_id) % 4)
        message = b"\0\1\0\0" + header + image_bytes("")[20:]
        assert view_image(message).frame_id == serialization.deserialize_message(message, Image).header.frame_id


def test_the_pixels_are_not_copied() -> None:
    message = image_bytes()
    data = np.frombuffer(view_image(message).data, np.uint8)
    assert np.shares_memory(data, np.frombuffer(message, np.uint8))


def test_arrays_are_written_as_they_lie_in_memory() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    view = view_image(serialize_image(1, 2, "cam", 2, 4, "rgb8", 12, image))
    assert np.array_equal(np.frombuffer(view.data, np.uint8).reshape(2, 4, 3), image)
    assert (view.stamp, view.stamp_ns, view.is_bigendian) == ((1, 2), 1_000_000_002, 0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data": bytes(17)}, r"data has 17 bytes, expected step \* height = 9 \* 2"),
        ({"data": np.zeros((2, 18), np.uint8)[:, ::2]}, "strided, expected contiguous"),
        ({"sec": 2**31}, "stamp 2147483648.8.*expected int32"),
        ({"width": -1}, "width -1"),
    ],
)
def test_what_does_not_fit_a_message_is_not_written(changes: dict[str, object], reason: str) -> None:
    fields = {"sec": 7, "nanosec": 8, "frame_id": "cam", "height": 2, "width": 3, "encoding": "rgb8"}
    with pytest.raises(ImageError, match=reason):
        serialize_image(**{**fields, "step": 9, "data": bytes(18), **changes})


def test_a_frame_id_cannot_break_the_message() -> None:
    assert view_image(image_bytes("a\0b")).frame_id == "a"
    assert view_image(image_bytes("bad \ud800")).frame_id == "bad ?"


def test_every_cut_is_noticed() -> None:
    message = image_bytes()
    compressed = b"\0\1\0\0" + struct.pack("<iII4sI5sxxxI3s", 1, 2, 4, b"cam", 5, b"jpeg", 3, b"abc")
    assert bytes(view_compressed(compressed).data) == b"abc"
    for length in range(len(message)):
        with pytest.raises(ImageError, match="expected"):
            view_image(message[:length])
    for length in range(len(compressed)):
        with pytest.raises(DecodeError, match="expected"):
            view_compressed(compressed[:length])


@pytest.mark.parametrize(
    ("position", "reason"),
    [
        (12, "header.frame_id has length 4294967295, expected at most the 50 bytes"),
        (28, "encoding has length 4294967295, expected at most the 34 bytes"),
        (44, "data has length 4294967295, expected at most the 18 bytes"),
    ],
)
def test_a_length_beyond_the_message_is_refused(position: int, reason: str) -> None:
    message = bytearray(image_bytes())
    message[position : position + 4] = b"\xff" * 4
    with pytest.raises(ImageError, match=reason):
        view_image(message)


def test_another_encapsulation_is_left_to_others() -> None:
    big_endian = b"\0\0" + image_bytes()[2:]
    assert is_little_endian_cdr(image_bytes()) and not is_little_endian_cdr(big_endian)
    assert not is_little_endian_cdr(b"")
    with pytest.raises(ImageError, match="starts with 00 00, expected the CDR encapsulation 00 01"):
        view_image(big_endian)


@HOSTILE
@given(data=st.data())
def test_no_bytes_raise_anything_but_our_errors(data: st.DataObject) -> None:
    message = bytearray(image_bytes())
    if data.draw(st.booleans()):
        message = bytearray(data.draw(st.binary(max_size=96)))
        message[:2] = b"\0\1"
    for _ in range(data.draw(st.integers(0, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    for read in (view_image, view_compressed, peek_header):
        with contextlib.suppress(TdnetRosError):
            read(bytes(message))
