"""Video as ROS messages carry it, one packet a message, in three message types."""

from __future__ import annotations

from functools import cache
from typing import Any

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from tdnet_ros.errors import DecodeError
from tdnet_ros.video.codecs import CODECS, brightness_encoding_of, codec_of
from tdnet_ros.video.packet_decoder import VideoPacket

FFMPEG_TYPE = "ffmpeg_image_transport_msgs/msg/FFMPEGPacket"
FOXGLOVE_TYPE = "foxglove_msgs/msg/CompressedVideo"
COMPRESSED_IMAGE_TYPE = "sensor_msgs/msg/CompressedImage"
#: Message types that hold nothing but video; a CompressedImage holds a video packet when its format says so.
PACKET_TYPES = (FFMPEG_TYPE, FOXGLOVE_TYPE)

_DEFINITIONS = {
    FFMPEG_TYPE: """
std_msgs/Header header
int32 width
int32 height
string encoding
uint64 pts
uint8 flags
bool is_bigendian
uint8[] data
""",
    FOXGLOVE_TYPE: """
builtin_interfaces/Time timestamp
string frame_id
uint8[] data
string format
""",
}


@cache
def typestore() -> Typestore:
    """ROS 2's common message types and those of PACKET_TYPES."""
    store = get_typestore(Stores.ROS2_KILTED)
    for name, definition in _DEFINITIONS.items():
        store.register(get_types_from_msg(definition, name))
    return store


def read_packet(cdr: bytes, type_name: str, received_ns: int = 0) -> VideoPacket:
    """A serialised message of one of the three types. Raises DecodeError for one that holds no video packet."""
    try:
        message: Any = typestore().deserialize_cdr(cdr, type_name)
    except Exception as error:  # rosbags raises whatever its generated parser trips over
        raise DecodeError(f"{type_name} is damaged: {error!r}") from error
    encoding = message.encoding if type_name == FFMPEG_TYPE else message.format
    codec = codec_of(encoding)
    if codec is None:
        raise DecodeError(f"{type_name} has encoding '{encoding}', expected one of {sorted(CODECS)}")
    header = message if type_name == FOXGLOVE_TYPE else message.header
    stamp = header.timestamp if type_name == FOXGLOVE_TYPE else header.stamp
    stamp_ns = int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)
    pts = int(message.pts) if type_name == FFMPEG_TYPE else None
    data, brightness = message.data.tobytes(), brightness_encoding_of(encoding)
    return VideoPacket(stamp_ns, received_ns, header.frame_id, codec, data, pts, brightness)
