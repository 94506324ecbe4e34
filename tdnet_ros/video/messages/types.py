"""Names of the message types that carry pictures or video, and their definitions for those that ROS 2 does not have."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from tdnet_ros.errors import TdnetRosError

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore
    from typing_extensions import Buffer

CAMERA_INFO_TYPE = "sensor_msgs/msg/CameraInfo"
IMAGE_TYPE = "sensor_msgs/msg/Image"
COMPRESSED_TYPE = "sensor_msgs/msg/CompressedImage"
FFMPEG_TYPE = "ffmpeg_image_transport_msgs/msg/FFMPEGPacket"
FOXGLOVE_TYPE = "foxglove_msgs/msg/CompressedVideo"
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
    # Here: a node whose senders are all little-endian never needs it.
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_KILTED)
    for name, definition in _DEFINITIONS.items():
        store.register(get_types_from_msg(definition, name))
    return store


def parsed(message: Buffer, type_name: str, error: type[TdnetRosError]) -> Any:
    """The message as rosbags reads it, of either byte order; raises ``error`` for one that is not of that type."""
    received = bytes(message)
    try:
        return typestore().deserialize_cdr(received, type_name)
    except Exception as reason:  # rosbags raises whatever its generated parser trips over
        start = received[:4].hex(" ") or "no bytes"
        raise error(
            f"message of {len(received)} bytes starts with {start}, expected a serialised {type_name.split('/')[-1]}"
        ) from reason
