"""How images arrive, by transport: the message type, the topic's suffix, and what makes frames of messages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image

from tdnet_ros.node import messages, transport
from tdnet_ros.video.frame import Frame


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


class Decoded(NamedTuple):
    """A frame, and the header that its mask will have."""

    header: Stamped
    frame: Frame


class Decoder(Protocol):
    """Makes frames of one camera's serialised messages; one for each camera, from activate to deactivate."""

    def decode(self, message: bytes) -> Decoded | None:
        """The message's frame; None when it shows nothing yet. Raises TdnetRosError for one that cannot be shown."""


class StillDecoder:
    """Every message is a picture for itself: ``parse`` views it, ``convert`` makes the frame."""

    def __init__(self, parse: Callable[[bytes], Any], convert: Callable[[Any], Frame]) -> None:
        self._parse, self._convert = parse, convert

    def decode(self, message: bytes) -> Decoded:
        """The message's frame. Raises ImageError or DecodeError."""
        view = self._parse(message)
        return Decoded(view, self._convert(view))


@dataclass(frozen=True)
class InputTransport:
    """One way for images to arrive.

    ``suffix`` follows the resolved name of ``image``. ``load_type`` gives the message type and raises
    ConfigurationError where its package is not installed. ``in_order``: every message has to be decoded, in order,
    and segmentation alone skips frames; otherwise the newest message wins.
    """

    suffix: str
    load_type: Callable[[], type]
    make_decoder: Callable[[], Decoder]
    in_order: bool = False

    @property
    def qos(self) -> QoSProfile:
        """Of the subscription."""
        return transport.PACKET_INPUT if self.in_order else transport.IMAGE_INPUT


#: By the value of ``input_transport``; ``parameters.INPUT_TRANSPORTS`` has the same names.
INPUTS = {
    "raw": InputTransport("", lambda: Image, lambda: StillDecoder(messages.image_view, messages.to_frame)),
    "compressed": InputTransport(
        "/compressed",
        lambda: CompressedImage,
        lambda: StillDecoder(messages.compressed_view, messages.compressed_to_frame),
    ),
}
