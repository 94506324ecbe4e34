"""Serialised messages with a packet of a video each, to packets, without a ROS package of theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdnet_ros.errors import DecodeError
from tdnet_ros.node.cdr import (
    CompressedView,
    PacketView,
    is_little_endian_cdr,
    view_compressed_video,
    view_ffmpeg_packet,
)
from tdnet_ros.video.codecs import CODECS, brightness_encoding_of, codec_of
from tdnet_ros.video.packet_decoder import VideoPacket

if TYPE_CHECKING:
    from typing_extensions import Buffer

FFMPEG_TYPE = "ffmpeg_image_transport_msgs/msg/FFMPEGPacket"
FOXGLOVE_TYPE = "foxglove_msgs/msg/CompressedVideo"
_SHOWN = 60  # characters of an encoding in an error: it comes from the network


def ffmpeg_packet(message: Buffer) -> VideoPacket:
    """The packet of a serialised ffmpeg_image_transport_msgs/FFMPEGPacket. Raises DecodeError."""
    if is_little_endian_cdr(message):
        return _packet(view_ffmpeg_packet(message))
    return _packet_of_other_encapsulation(message, FFMPEG_TYPE)


def foxglove_packet(message: Buffer) -> VideoPacket:
    """The packet of a serialised foxglove_msgs/CompressedVideo. Raises DecodeError."""
    if is_little_endian_cdr(message):
        return _packet(view_compressed_video(message))
    return _packet_of_other_encapsulation(message, FOXGLOVE_TYPE)


def compressed_packet(view: CompressedView) -> VideoPacket:
    """The packet of a sensor_msgs/CompressedImage whose format names a video codec. Raises DecodeError."""
    return _packet(PacketView(view.sec, view.nanosec, view.frame_id, view.format, None, view.data))


def _packet(view: PacketView) -> VideoPacket:
    codec = codec_of(view.encoding)
    if codec is None:
        raise DecodeError(f"video packet has encoding '{view.encoding[:_SHOWN]}', expected one of {sorted(CODECS)}")
    brightness = brightness_encoding_of(view.encoding)
    return VideoPacket(view.stamp_ns, 0, view.frame_id, codec, bytes(view.data), view.pts, brightness)


def _packet_of_other_encapsulation(message: Buffer, type_name: str) -> VideoPacket:
    from tdnet_ros.video.packets import read_packet  # rosbags' parser, which big-endian senders alone need

    return read_packet(bytes(message), type_name)
