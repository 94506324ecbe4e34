"""Serialised messages with a packet of a video each, to packets: three message types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tdnet_ros.errors import DecodeError
from tdnet_ros.video.codecs import CODECS, brightness_encoding_of, codec_of
from tdnet_ros.video.messages.cdr import (
    CompressedView,
    PacketView,
    is_little_endian_cdr,
    view_compressed_video,
    view_ffmpeg_packet,
)
from tdnet_ros.video.messages.types import FFMPEG_TYPE, FOXGLOVE_TYPE, typestore
from tdnet_ros.video.packet_decoder import VideoPacket

if TYPE_CHECKING:
    from typing_extensions import Buffer

_SHOWN = 60  # characters of an encoding in an error: it comes from the network


def ffmpeg_packet(message: Buffer) -> VideoPacket:
    """The packet of a serialised ffmpeg_image_transport_msgs/FFMPEGPacket. Raises DecodeError."""
    if is_little_endian_cdr(message):
        return _packet(view_ffmpeg_packet(message))
    return read_packet(bytes(message), FFMPEG_TYPE)


def foxglove_packet(message: Buffer) -> VideoPacket:
    """The packet of a serialised foxglove_msgs/CompressedVideo. Raises DecodeError."""
    if is_little_endian_cdr(message):
        return _packet(view_compressed_video(message))
    return read_packet(bytes(message), FOXGLOVE_TYPE)


def compressed_packet(view: CompressedView) -> VideoPacket:
    """The packet of a sensor_msgs/CompressedImage whose format names a video codec. Raises DecodeError."""
    return _packet(PacketView(view.sec, view.nanosec, view.frame_id, view.format, None, view.data))


def read_packet(cdr: bytes, type_name: str, received_ns: int = 0) -> VideoPacket:
    """The packet of a serialised message of one of the three types, in either byte order, by rosbags' parser.

    Slower than the functions above, as a bag's reader may be. Raises DecodeError for a message without a video packet.
    """
    try:
        message: Any = typestore().deserialize_cdr(cdr, type_name)
    except Exception as error:  # rosbags raises whatever its generated parser trips over
        raise DecodeError(f"{type_name} is damaged: {error!r}") from error
    encoding = message.encoding if type_name == FFMPEG_TYPE else message.format
    header = message if type_name == FOXGLOVE_TYPE else message.header
    stamp = header.timestamp if type_name == FOXGLOVE_TYPE else header.stamp
    pts = int(message.pts) if type_name == FFMPEG_TYPE else None
    view = PacketView(int(stamp.sec), int(stamp.nanosec), header.frame_id, encoding, pts, memoryview(message.data))
    return _packet(view, received_ns)


def _packet(view: PacketView, received_ns: int = 0) -> VideoPacket:
    codec = codec_of(view.encoding)
    if codec is None:
        raise DecodeError(f"video packet has encoding '{view.encoding[:_SHOWN]}', expected one of {sorted(CODECS)}")
    brightness = brightness_encoding_of(view.encoding)
    return VideoPacket(view.stamp_ns, received_ns, view.frame_id, codec, bytes(view.data), view.pts, brightness)
