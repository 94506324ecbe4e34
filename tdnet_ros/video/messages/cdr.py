"""Read and write images in their serialised form, without copying the pixels on the way in; read video packets.

rclpy's deserialize_message copies every pixel and costs some hundred microseconds for a 720p image; a raw
subscription hands out the bytes, and a view into them costs a few microseconds. The layout is that of classic
CDR (XCDR1), little-endian: a 4-byte encapsulation header ``00 01 xx xx``, then the fields in order, each
aligned to its own size, strings and sequences preceded by their uint32 length. The bytes come from the
network: every length is checked before it is used. The modules beside this one take other encapsulations.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from tdnet_ros.errors import DecodeError, ImageError, TdnetRosError

if TYPE_CHECKING:
    from typing_extensions import Buffer

LITTLE_ENDIAN_CDR = b"\x00\x01"

# Positions are counted from the start of the message: the encapsulation's 4 bytes shift no 4-byte alignment.
_HEADER = struct.Struct("<2sxxiII")  # encapsulation, stamp.sec, stamp.nanosec, length of frame_id
_SIZE = struct.Struct("<III")  # height, width, length of encoding
_STEP = struct.Struct("<II")  # step, length of data
_LENGTH = struct.Struct("<I")
_PACKET_SIZE = struct.Struct("<iiI")  # width, height, length of encoding
_PACKET_FLAGS = struct.Struct("<QB?")  # pts, flags, is_bigendian
#: Length of the encapsulation: 8-byte fields are aligned behind it.
_ENCAPSULATION = 4


class ImageView(NamedTuple):
    """The fields of a sensor_msgs/Image; ``data`` looks into the received message and keeps it alive.

    Nothing is checked here but that the message holds what it says: to_frame checks the image itself.
    """

    sec: int
    nanosec: int
    frame_id: str
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: memoryview

    @property
    def stamp(self) -> tuple[int, int]:
        """The header's stamp as (sec, nanosec), to be copied into outputs verbatim."""
        return self.sec, self.nanosec

    @property
    def stamp_ns(self) -> int:
        """The header's stamp in nanoseconds; 0 when the sender left it unset."""
        return self.sec * 1_000_000_000 + self.nanosec


class CompressedView(NamedTuple):
    """The fields of a sensor_msgs/CompressedImage; ``data`` looks into the message."""

    sec: int
    nanosec: int
    frame_id: str
    format: str
    data: memoryview

    @property
    def stamp(self) -> tuple[int, int]:
        """The header's stamp as (sec, nanosec), to be copied into outputs verbatim."""
        return self.sec, self.nanosec

    @property
    def stamp_ns(self) -> int:
        """The header's stamp in nanoseconds; 0 when the sender left it unset."""
        return self.sec * 1_000_000_000 + self.nanosec


class PacketView(NamedTuple):
    """What FFMPEGPacket and CompressedVideo have in common; ``data`` looks into the message.

    ``encoding`` is as the sender writes it; ``pts`` counts his packets, None where the message has no such field.
    """

    sec: int
    nanosec: int
    frame_id: str
    encoding: str
    pts: int | None
    data: memoryview

    @property
    def stamp_ns(self) -> int:
        """The stamp in nanoseconds; 0 when the sender left it unset."""
        return self.sec * 1_000_000_000 + self.nanosec


def is_little_endian_cdr(message: Buffer) -> bool:
    """Whether the message has the one encapsulation that this module reads."""
    return bytes(memoryview(message)[:2]) == LITTLE_ENDIAN_CDR


def view_image(message: Buffer) -> ImageView:
    """View the serialised sensor_msgs/Image; raises ImageError when a field reaches beyond the message."""
    view = memoryview(message)
    sec, nanosec, frame_id, position = _read_header(view, ImageError)
    height, width, length = _unpack(_SIZE, view, position, "height, width and encoding", ImageError)
    encoding, position = _read_string(view, position + 12, length, "encoding", ImageError)
    step_start = (position + 4) & -4  # behind one byte of is_bigendian
    step, length = _unpack(_STEP, view, step_start, "step and data", ImageError)
    data = _slice(view, step_start + 8, length, "data", ImageError)
    return ImageView(sec, nanosec, frame_id, height, width, encoding, view[position], step, data)


def view_compressed(message: Buffer) -> CompressedView:
    """View the serialised sensor_msgs/CompressedImage; raises DecodeError when a field reaches beyond it."""
    view = memoryview(message)
    sec, nanosec, frame_id, position = _read_header(view, DecodeError)
    (length,) = _unpack(_LENGTH, view, position, "format", DecodeError)
    image_format, position = _read_string(view, position + 4, length, "format", DecodeError)
    position = (position + 3) & -4
    (length,) = _unpack(_LENGTH, view, position, "data", DecodeError)
    data = _slice(view, position + 4, length, "data", DecodeError)
    return CompressedView(sec, nanosec, frame_id, image_format, data)


def view_ffmpeg_packet(message: Buffer) -> PacketView:
    """View the serialised ffmpeg_image_transport_msgs/FFMPEGPacket; raises DecodeError as view_compressed does."""
    view = memoryview(message)
    sec, nanosec, frame_id, position = _read_header(view, DecodeError)
    *_, length = _unpack(_PACKET_SIZE, view, position, "width, height and encoding", DecodeError)
    encoding, position = _read_string(view, position + _PACKET_SIZE.size, length, "encoding", DecodeError)
    position = ((position - _ENCAPSULATION + 7) & -8) + _ENCAPSULATION
    pts, *_ = _unpack(_PACKET_FLAGS, view, position, "pts and flags", DecodeError)
    position = (position + _PACKET_FLAGS.size + 3) & -4
    (length,) = _unpack(_LENGTH, view, position, "data", DecodeError)
    return PacketView(sec, nanosec, frame_id, encoding, pts, _slice(view, position + 4, length, "data", DecodeError))


def view_compressed_video(message: Buffer) -> PacketView:
    """View the serialised foxglove_msgs/CompressedVideo; raises DecodeError as view_compressed does."""
    view = memoryview(message)
    sec, nanosec, frame_id, position = _read_header(view, DecodeError)  # time and frame_id lie as in a header
    (length,) = _unpack(_LENGTH, view, position, "data", DecodeError)
    data = _slice(view, position + 4, length, "data", DecodeError)
    position = (position + 4 + length + 3) & -4
    (length,) = _unpack(_LENGTH, view, position, "format", DecodeError)
    encoding, _ = _read_string(view, position + 4, length, "format", DecodeError)
    return PacketView(sec, nanosec, frame_id, encoding, None, data)


def peek_header(message: Buffer) -> tuple[int, int, str]:
    """(sec, nanosec, frame_id) of any serialised message that starts with a std_msgs/Header.

    Raises ImageError when it is not little-endian CDR or ends within the header.
    """
    return _read_header(memoryview(message), ImageError)[:3]


def serialize_image(
    sec: int,
    nanosec: int,
    frame_id: str,
    height: int,
    width: int,
    encoding: str,
    step: int,
    data: Buffer,
    is_bigendian: bool = False,
) -> bytes:
    """Serialise a sensor_msgs/Image for ``publisher.publish(bytes)``, copying the pixels once.

    ``data`` is contiguous memory of ``step * height`` bytes, such as a uint8 array (H, W) or (H, W, 3).
    Padding bytes are zero, where rclpy leaves what its memory held; all others are the same as rclpy's.
    Raises ImageError when data has another size, when it is strided, or when a number does not fit its field.
    """
    pixels = memoryview(data)
    if not pixels.c_contiguous:
        raise ImageError(f"data of a {encoding} image is strided, expected contiguous memory")
    if pixels.nbytes != step * height:
        raise ImageError(f"data has {pixels.nbytes} bytes, expected step * height = {step} * {height}")
    frame_bytes, encoding_bytes = _string_bytes(frame_id), _string_bytes(encoding)
    try:
        start = b"".join(
            (
                _HEADER.pack(LITTLE_ENDIAN_CDR, sec, nanosec, len(frame_bytes)),
                frame_bytes,
                bytes(-len(frame_bytes) % 4),
                _SIZE.pack(height, width, len(encoding_bytes)),
                encoding_bytes,
                b"\x01" if is_bigendian else b"\x00",
                bytes(-(len(encoding_bytes) + 1) % 4),
                _STEP.pack(step, pixels.nbytes),
            )
        )
    except struct.error as error:
        numbers = f"stamp {sec}.{nanosec}, height {height}, width {width}, step {step}"
        raise ImageError(f"image header has {numbers}, expected int32 seconds and uint32 others") from error
    return b"".join((start, pixels))


def _read_header(view: memoryview, error: type[TdnetRosError]) -> tuple[int, int, str, int]:
    """(sec, nanosec, frame_id, position of the next 4-byte field)."""
    encapsulation, sec, nanosec, length = _unpack(_HEADER, view, 0, "header", error)
    if encapsulation != LITTLE_ENDIAN_CDR:
        raise error(f"message starts with {encapsulation.hex(' ')}, expected the CDR encapsulation 00 01")
    frame_id, position = _read_string(view, 16, length, "header.frame_id", error)
    return sec, nanosec, frame_id, (position + 3) & -4


def _unpack(
    layout: struct.Struct, view: memoryview, start: int, field: str, error: type[TdnetRosError]
) -> tuple[Any, ...]:
    try:
        return layout.unpack_from(view, start)
    except struct.error:
        raise error(f"message has {len(view)} bytes, expected at least {start + layout.size} for {field}") from None


def _slice(view: memoryview, start: int, length: int, field: str, error: type[TdnetRosError]) -> memoryview:
    end = start + length
    if end > len(view):
        raise error(f"{field} has length {length}, expected at most the {len(view) - start} bytes that are left")
    return view[start:end]


def _read_string(view: memoryview, start: int, length: int, field: str, error: type[TdnetRosError]) -> tuple[str, int]:
    """The string and the position behind it; ends at the first NUL and replaces bad UTF-8, as rclpy does."""
    text = str(_slice(view, start, length, field, error), "utf-8", "replace")
    return text.partition("\0")[0], start + length


def _string_bytes(text: str) -> bytes:
    # ROS strings end at a NUL, and a lone surrogate has no UTF-8: neither may break a message.
    return text.partition("\0")[0].encode("utf-8", "replace") + b"\0"
