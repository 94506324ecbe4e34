"""The packets of a video as messages of a camera: as they are, not encoded anew."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from sensor_msgs.msg import CompressedImage

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.node.interfaces import interface
from tdnet_ros.node.playback import Outgoing
from tdnet_ros.video.codecs import CODECS, starts_group
from tdnet_ros.video.file_packets import file_packets
from tdnet_ros.video.image_source import ImageSource
from tdnet_ros.video.packet_decoder import VideoPacket
from tdnet_ros.video.sources import VideoFile

_NS = 1_000_000_000
#: FFmpeg's name of a codec where CompressedVideo has another.
_FOXGLOVE_FORMATS = {"hevc": "h265"}

_log = logging.getLogger(__name__)


def _compressed(packet: VideoPacket, size: tuple[int, int], stamp_ns: int) -> Any:
    message = CompressedImage(format=packet.codec, data=packet.data)
    _set_header(message.header, packet, stamp_ns)
    return message


def _ffmpeg(packet: VideoPacket, size: tuple[int, int], stamp_ns: int) -> Any:
    message = interface("ffmpeg_image_transport_msgs", "FFMPEGPacket")()
    _set_header(message.header, packet, stamp_ns)
    plane = packet.brightness_encoding
    message.encoding = f"{packet.codec};yuv420p;{plane};{plane}" if plane else packet.codec
    message.width, message.height = size
    message.pts, message.flags, message.data = packet.pts or 0, int(packet.is_keyframe), packet.data
    return message


def _foxglove(packet: VideoPacket, size: tuple[int, int], stamp_ns: int) -> Any:
    message = interface("foxglove_msgs", "CompressedVideo")()
    message.format, message.data = _FOXGLOVE_FORMATS.get(packet.codec, packet.codec), packet.data
    message.timestamp.sec, message.timestamp.nanosec = divmod(stamp_ns, _NS)
    message.frame_id = packet.frame_id
    return message


def _set_header(header: Any, packet: VideoPacket, stamp_ns: int) -> None:
    header.frame_id = packet.frame_id
    header.stamp.sec, header.stamp.nanosec = divmod(stamp_ns, _NS)


#: By the player's ``transport``: the topic's suffix, what gives the message type, and what makes a message.
PACKET_TRANSPORTS: dict[str, tuple[str, Callable[[], type], Callable[[VideoPacket, tuple[int, int], int], Any]]] = {
    "compressed_video": ("/compressed", lambda: CompressedImage, _compressed),
    "ffmpeg": ("/ffmpeg", lambda: interface("ffmpeg_image_transport_msgs", "FFMPEGPacket"), _ffmpeg),
    "foxglove": ("/foxglove", lambda: interface("foxglove_msgs", "CompressedVideo"), _foxglove),
}


class PacketCamera:
    """Turns the packets of a video file, or of a bag that has video, into messages of one type.

    Raises ConfigurationError for other sources, for a codec that no message names, and where the message's package is
    not installed.
    """

    def __init__(self, source: ImageSource, transport: str, frame_id: str, rate_hz: float = 0.0) -> None:
        """``frame_id`` is that of video files, ``rate_hz`` replaces the packets' own times."""
        self.suffix, load_type, self._make = PACKET_TRANSPORTS[transport]
        self.message_type = load_type()
        self._source, self._transport = source, transport
        self._frame_id, self._steady_rate_hz = frame_id, rate_hz
        first = next(self._packets(), None)
        if first is not None and first.codec not in CODECS:
            raise ConfigurationError(
                f"{source.name} is coded as {first.codec}, expected one of {sorted(CODECS)} for packets: "
                "transport raw or compressed sends the pictures of any video"
            )

    def images(self, duration_s: float = 0.0, loop: bool = False) -> Iterator[Outgoing]:
        """The packets; of the first ``duration_s`` seconds only, unless that is 0; for ever if ``loop``.

        They are counted through all rounds, as one camera would.
        """
        lap_start_ns, last_ns, sent, warned = 0, 0, 0, self._transport != "foxglove"
        while True:
            for index, packet in enumerate(self._packets()):
                if duration_s and packet.received_ns >= duration_s * _NS:
                    break
                ahead_ns = 0 if self._source.has_clock else packet.stamp_ns - packet.received_ns
                if ahead_ns and not warned:
                    _log.warning("%s has B-frames, which CompressedVideo excludes", self._source.name)
                    warned = True
                last_ns = max(last_ns, lap_start_ns + packet.received_ns)
                key = packet.is_keyframe or starts_group(packet.codec, packet.data)
                made = partial(self._make, replace(packet, pts=sent, is_keyframe=key), self._source.size)
                yield Outgoing(index, last_ns, packet.stamp_ns, made, ahead_ns)
                sent += 1
            if not loop:
                return
            lap_start_ns = last_ns + round(_NS / self._source.rate_hz)

    def _packets(self) -> Iterator[VideoPacket]:
        """With ``received_ns`` counted from the first, both times of a file at the rate that is asked for."""
        start_ns: int | None = None
        for index, packet in enumerate(self._stored()):
            start_ns = packet.received_ns if start_ns is None else start_ns
            time_ns, stamp_ns = packet.received_ns - start_ns, packet.stamp_ns
            if self._steady_rate_hz:
                steady_ns = round(index * _NS / self._steady_rate_hz)
                if not self._source.has_clock:
                    stamp_ns = round(stamp_ns * steady_ns / time_ns) if time_ns else 0
                time_ns = steady_ns
            yield replace(packet, received_ns=time_ns, stamp_ns=stamp_ns)

    def _stored(self) -> Iterator[VideoPacket]:
        from tdnet_ros.video.bag_source import PacketBagSource  # asks for the rosbags library

        if isinstance(self._source, VideoFile):
            return (replace(packet, frame_id=self._frame_id) for packet in file_packets(self._source.path))
        if isinstance(self._source, PacketBagSource):
            return self._source.packets()
        raise ConfigurationError(
            f"transport is '{self._transport}', but {self._source.name} holds pictures, no packets of a video: "
            "expected transport raw or compressed"
        )
