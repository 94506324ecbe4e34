"""Video as ROS messages carry it, one packet a message: the three message types, and a decoder for their packets."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import av
import numpy as np
import numpy.typing as npt
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from tdnet_ros.errors import DecodeError

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
#: What encodings and encoder names begin with, by FFmpeg's name of the codec.
_CODECS = {
    "h264": ("h264", "libx264", "x264"),
    "hevc": ("hevc", "h265", "libx265", "x265"),
    "vp9": ("vp9", "libvpx-vp9"),
    "av1": ("av1", "libaom", "libsvtav1", "librav1e"),
}
#: Packets that a decoder may hold back before their images come out: more than the standards' 16 reference frames.
_LONGEST_DELAY = 32


@dataclass(frozen=True)
class VideoPacket:
    """One packet: when its image was taken and when it arrived, FFmpeg's name of its codec, and its bytes."""

    stamp_ns: int
    received_ns: int
    frame_id: str
    codec: str
    data: bytes


@cache
def typestore() -> Typestore:
    """ROS 2's common message types and those of PACKET_TYPES."""
    store = get_typestore(Stores.ROS2_KILTED)
    for name, definition in _DEFINITIONS.items():
        store.register(get_types_from_msg(definition, name))
    return store


def codec_of(encoding: str) -> str | None:
    """FFmpeg's codec for a message's ``encoding`` or ``format``; None when it names no video codec.

    Both generations of FFMPEGPacket are known: an encoder's name (``libx264``, ``hevc_nvenc``), and the codec in
    front of pixel formats (``h264;yuv420p;bgr8;bgr8``).
    """
    name = encoding.split(";")[0].strip().lower()
    return next((codec for codec, starts in _CODECS.items() if name.startswith(starts)), None)


def read_packet(cdr: bytes, type_name: str, received_ns: int = 0) -> VideoPacket:
    """A serialised message of one of the three types. Raises DecodeError for one that holds no video packet."""
    try:
        message: Any = typestore().deserialize_cdr(cdr, type_name)
    except Exception as error:  # rosbags raises whatever its generated parser trips over
        raise DecodeError(f"{type_name} is damaged: {error!r}") from error
    encoding = message.encoding if type_name == FFMPEG_TYPE else message.format
    codec = codec_of(encoding)
    if codec is None:
        raise DecodeError(f"{type_name} has encoding '{encoding}', expected one of {sorted(_CODECS)}")
    header = message if type_name == FOXGLOVE_TYPE else message.header
    stamp = header.timestamp if type_name == FOXGLOVE_TYPE else header.stamp
    stamp_ns = int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)
    return VideoPacket(stamp_ns, received_ns, header.frame_id, codec, message.data.tobytes())


class PacketDecoder:
    """Decodes the packets of one stream in order. What cannot be decoded, as before the first keyframe, is counted."""

    def __init__(self) -> None:
        self.damaged = 0
        self._context: Any = None
        self._waiting: deque[VideoPacket] = deque()
        self._count = 0

    def decode(self, packet: VideoPacket) -> Iterator[tuple[VideoPacket, npt.NDArray[np.uint8]]]:
        """The packets whose images came out, mostly this one, with RGB (H, W, 3); another codec starts a new stream."""
        if self._context is None or self._context.name != packet.codec:
            yield from self.flush()
            self._context = cast(Any, av.CodecContext.create(packet.codec, "r"))
            self._context.thread_count = 1  # one packet in, one image out
        wrapped = av.Packet(packet.data)
        wrapped.pts = self._count
        self._count += 1
        self._waiting.append(packet)
        yield from self._images(wrapped)

    def flush(self) -> Iterator[tuple[VideoPacket, npt.NDArray[np.uint8]]]:
        """What the decoder still holds back: B-frames make it wait."""
        if self._context is not None:
            yield from self._images(None)
        self._waiting.clear()

    def _images(self, wrapped: Any) -> Iterator[tuple[VideoPacket, npt.NDArray[np.uint8]]]:
        try:
            frames = self._context.decode(wrapped)
        except av.error.FFmpegError:
            self.damaged += 1
            return
        oldest = self._count - len(self._waiting)
        for frame in frames:
            position = frame.pts - oldest
            if 0 <= position < len(self._waiting):
                image = cast(npt.NDArray[np.uint8], frame.to_ndarray(format="rgb24"))
                yield self._waiting[position], image
        while len(self._waiting) > _LONGEST_DELAY:
            self._waiting.popleft()
