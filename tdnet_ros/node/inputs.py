"""How images arrive, by transport: the message type, the topic's suffix, and what makes frames of messages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image

from tdnet_ros.node import bridge, transport
from tdnet_ros.node.interfaces import interface
from tdnet_ros.node.packet_intake import PacketIntake
from tdnet_ros.video.codecs import codec_of
from tdnet_ros.video.frame import Frame
from tdnet_ros.video.messages import images
from tdnet_ros.video.messages.packets import compressed_packet, ffmpeg_packet, foxglove_packet


class Stamped(Protocol):
    """A std_msgs/Header, or a view of a message that begins with one; outputs repeat it verbatim."""

    @property
    def sec(self) -> int:
        """Seconds of the stamp."""

    @property
    def nanosec(self) -> int:
        """The stamp's nanoseconds within the second."""

    @property
    def frame_id(self) -> str:
        """Name of the camera's coordinate frame."""


class Decoder(Protocol):
    """Makes frames of one camera's serialised messages; one for each camera, from activate to deactivate."""

    @property
    def lost(self) -> int:
        """Messages that never arrived, as far as those that did tell."""

    @property
    def facts(self) -> dict[str, str]:
        """What diagnostics say of it."""

    def feed(self, message: bytes, after_gap: bool = False) -> bool:
        """Take the next message; whether it shows a picture. ``after_gap``: some before it are missing.

        Raises TdnetRosError for a message that shows none though it should.
        """

    def newest(self) -> tuple[Stamped, Frame] | None:
        """Header and frame of the newest picture since the last call, if there is one. Raises TdnetRosError."""

    def segmented(self) -> None:
        """The frame of the last ``newest`` has become a mask."""


class StillDecoder:
    """Every message is a picture for itself: ``parse`` views it, ``convert`` makes the frame."""

    lost = 0

    def __init__(self, parse: Callable[[bytes], Any], convert: Callable[[Any], Frame]) -> None:
        self._parse, self._convert = parse, convert
        self._view: Any = None

    @property
    def facts(self) -> dict[str, str]:
        """None."""
        return {}

    def feed(self, message: bytes, after_gap: bool = False) -> bool:
        """Keep a view of the message. Raises ImageError or DecodeError."""
        self._view = self._parse(message)
        return True

    def newest(self) -> tuple[Stamped, Frame] | None:
        """The message's frame. Raises ImageError or DecodeError."""
        view, self._view = self._view, None
        return None if view is None else (view, self._convert(view))

    def segmented(self) -> None:
        """No frame needs the one before it."""


class CompressedDecoder(StillDecoder):
    """sensor_msgs/CompressedImage: pictures for themselves, or packets of a video where ``format`` says so."""

    def __init__(self, packets: PacketIntake) -> None:
        super().__init__(images.compressed_view, images.compressed_to_frame)
        self._packets = packets
        self._is_video = False

    @property
    def lost(self) -> int:
        return self._packets.lost

    @property
    def facts(self) -> dict[str, str]:
        return self._packets.facts if self._is_video else {}

    def feed(self, message: bytes, after_gap: bool = False) -> bool:
        view = self._parse(message)
        self._is_video = codec_of(view.format) is not None
        if self._is_video:
            self._view = None
            return self._packets.decode(compressed_packet(view), after_gap)
        self._view = view
        return True

    def newest(self) -> tuple[Stamped, Frame] | None:
        return self._packets.newest() if self._is_video else super().newest()

    def segmented(self) -> None:
        self._packets.segmented()


@dataclass(frozen=True)
class InputTransport:
    """One way for images to arrive.

    ``suffix`` follows the resolved name of ``image``. ``load_type`` gives the message type and raises
    ConfigurationError where its package is not installed. ``make_decoder`` takes whether pictures are wanted that lost
    packets have damaged. ``in_order``: every message has to be decoded, in order, and segmentation alone skips frames;
    otherwise the newest message wins.
    """

    suffix: str
    load_type: Callable[[], type]
    make_decoder: Callable[[bool], Decoder]
    qos: QoSProfile
    in_order: bool = False


#: By the value of ``input_transport``; ``parameters.INPUT_TRANSPORTS`` has the same names.
INPUTS = {
    "raw": InputTransport(
        "",
        lambda: Image,
        lambda _: StillDecoder(images.image_view, bridge.to_frame),
        transport.IMAGE_INPUT,
    ),
    "compressed": InputTransport(
        "/compressed",
        lambda: CompressedImage,
        lambda accept_damaged: CompressedDecoder(PacketIntake(accept_damaged=accept_damaged)),
        transport.COMPRESSED_INPUT,
        in_order=True,
    ),
    "ffmpeg": InputTransport(
        "/ffmpeg",
        lambda: interface("ffmpeg_image_transport_msgs", "FFMPEGPacket"),
        lambda accept_damaged: PacketIntake(ffmpeg_packet, accept_damaged=accept_damaged),
        transport.VIDEO_PACKETS,
        in_order=True,
    ),
    "foxglove": InputTransport(
        "/foxglove",
        lambda: interface("foxglove_msgs", "CompressedVideo"),
        lambda accept_damaged: PacketIntake(foxglove_packet, accept_damaged=accept_damaged),
        transport.VIDEO_PACKETS,
        in_order=True,
    ),
}
