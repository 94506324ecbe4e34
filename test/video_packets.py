"""Packets for tests: numbered, or not, decoded all at once, or as the messages that carry them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from tdnet_ros.video.frame import Break
from tdnet_ros.video.messages.types import FFMPEG_TYPE, FOXGLOVE_TYPE, typestore
from tdnet_ros.video.packet_decoder import DecodedPicture, PacketDecoder, VideoPacket

#: Codecs without vectors: the encoder's name, and options without B-frames.
LOW_DELAY = {
    "hevc": ("libx265", {"preset": "ultrafast", "tune": "zerolatency", "x265-params": "log-level=none:bframes=0"}),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}),
    "av1": ("libsvtav1", {"preset": "10", "svtav1-params": "pred-struct=1:rc=2:lp=1"}),
}


def packets_of(data: Iterable[bytes], codec: str = "h264", counted: bool = True) -> list[VideoPacket]:
    """Packets in the order of ``data``; ``counted``: the sender numbers them."""
    return [
        VideoPacket(index * 10**8, index * 10**8, "front", codec, content, index if counted else None)
        for index, content in enumerate(data)
    ]


def write_encoded(
    path: Path,
    pictures: Iterable[npt.NDArray[np.uint8]],
    gop: int,
    rate_hz: int,
    codec: str = "libx264",
    **options: str,
) -> Path:
    """A video file of RGB pictures (H, W, 3); the path."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate_hz)
        stream.pix_fmt, stream.gop_size, stream.options = "yuv420p", gop, options
        for index, picture in enumerate(pictures):
            if index == 0:
                stream.height, stream.width = picture.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def decode_all(packets: Iterable[VideoPacket]) -> tuple[list[DecodedPicture], PacketDecoder]:
    """Every picture, with its motion, and the decoder that they came from."""
    decoder = PacketDecoder(vectors=True)
    pictures = [picture for packet in packets for picture in decoder.decode(packet)]
    return [*pictures, *decoder.flush()], decoder


def breaks(pictures: list[DecodedPicture]) -> dict[int, Break]:
    """Why motion is broken, by the number of the packet."""
    found = {picture.packet.stamp_ns // 10**8: picture.motion for picture in pictures}
    return {number: motion.broken for number, motion in found.items() if motion is not None and motion.broken}


def packet_message(
    type_name: str, data: bytes, stamp_ns: int = 10**9, encoding: str = "h264", pts: int = 0, little_endian: bool = True
) -> bytes:
    """A packet as a serialised FFMPEGPacket, CompressedVideo or CompressedImage, of camera "front"."""
    types = typestore().types
    stamp = types["builtin_interfaces/msg/Time"](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="front")
    content = np.frombuffer(data, np.uint8)
    if type_name == FFMPEG_TYPE:
        fields = {"width": 64, "height": 48, "pts": pts, "flags": 1, "is_bigendian": False}
        made = types[type_name](header=header, encoding=encoding, data=content, **fields)
    elif type_name == FOXGLOVE_TYPE:
        made = types[type_name](timestamp=stamp, frame_id="front", format=encoding, data=content)
    else:
        made = types[type_name](header=header, format=encoding, data=content)
    return bytes(typestore().serialize_cdr(made, type_name, little_endian=little_endian))
