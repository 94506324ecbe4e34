"""Video on its way into the node: every packet is decoded, in order; the newest picture is segmented."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from tdnet_ros.errors import DecodeError
from tdnet_ros.node.bridge import to_frame
from tdnet_ros.video.frame import Frame, MotionField
from tdnet_ros.video.messages.cdr import ImageView
from tdnet_ros.video.motion import SkippedMotion
from tdnet_ros.video.packet_decoder import DecodedPicture, PacketDecoder, VideoPacket

#: Among the facts: why there is no mask until the next keyframe; '' while there are masks.
WAITING = "waiting for a keyframe"
_NS = 1_000_000_000

_log = logging.getLogger(__name__)


class PictureHeader(NamedTuple):
    """Stamp and frame_id of a picture, as its packet had them."""

    sec: int
    nanosec: int
    frame_id: str


class PacketIntake:
    """Decodes one camera's packets and hands on the newest picture, with the motion since the one segmented before.

    A picture that builds on a lost packet shows things that were never there, and so do those that build on it, up to
    the next keyframe: they are handed on only if ``accept_damaged``. ``vectors``: pictures bring the bitstream's motion
    along, at a millisecond or two each.
    """

    def __init__(
        self, read: Callable[[bytes], VideoPacket] | None = None, vectors: bool = True, accept_damaged: bool = False
    ) -> None:
        """``read`` makes packets of the messages that are fed; without it there are only packets to decode."""
        self._read = read
        self._decoder = PacketDecoder(vectors)
        self._accept_damaged = accept_damaged
        self._skipped = SkippedMotion()
        self._newest: DecodedPicture | None = None
        self._motion: MotionField | None = None
        self._waiting = ""  # why nothing is handed on until a keyframe comes
        #: Pictures that were decoded and not handed on because they build on a lost packet.
        self.withheld = 0

    @property
    def lost(self) -> int:
        """Packets that never arrived, as sender's count and bitstream tell."""
        return self._decoder.lost

    @property
    def facts(self) -> dict[str, str]:
        """What diagnostics say of the stream."""
        decoder = self._decoder
        return {
            "packets lost": str(decoder.lost),
            "packets damaged": str(decoder.damaged),
            "packets before the first keyframe": str(decoder.waited),
            "pictures withheld until a keyframe": str(self.withheld),
            WAITING: self._waiting,
            "motion vectors": decoder.fault or "usable",
        }

    def feed(self, message: bytes, after_gap: bool = False) -> bool:
        """Decode one message's packet; whether a picture came that can be handed on.

        ``after_gap``: messages before this one were thrown away. Raises DecodeError for a packet that cannot be
        decoded, or only in part; those after it are withheld until a keyframe.
        """
        assert self._read is not None
        try:
            packet = self._read(message)
        except DecodeError:
            self._decoder.note_loss()
            raise
        return self.decode(packet, after_gap)

    def decode(self, packet: VideoPacket, after_gap: bool = False) -> bool:
        """What ``feed`` does with a packet."""
        if after_gap:
            self._decoder.note_loss()
        damaged, waited, before = self._decoder.damaged, self._decoder.waited, self._newest
        withheld = 0
        for picture in self._decoder.decode(packet):
            self._motion = self._skipped.follow(picture.motion)
            if picture.intact or self._accept_damaged:
                self._newest, self._waiting = picture, ""
            else:
                withheld += 1
                self._await_keyframe("a packet was lost or damaged")
        if self._decoder.waited > waited:
            self._await_keyframe("the stream was joined between keyframes")
        self.withheld += withheld
        if self._decoder.damaged > damaged:
            self.withheld -= withheld > 0  # that packet's own picture: it counts as rejected
            raise DecodeError(f"{packet.codec} packet of {len(packet.data)} bytes is damaged, expected a whole picture")
        return self._newest is not before

    def newest(self) -> tuple[PictureHeader, Frame] | None:
        """The newest picture since the last call, and the header of its mask; None when there is none."""
        picture, self._newest = self._newest, None
        if picture is None:
            return None
        packet = picture.packet
        return PictureHeader(*divmod(packet.stamp_ns, _NS), packet.frame_id), self._frame(picture)

    def segmented(self) -> None:
        """The frame of the last ``newest`` has become a mask: motion leads to it from now on."""
        self._skipped.hand_on()

    def _await_keyframe(self, reason: str) -> None:
        if not self._waiting:
            _log.warning("%s: no mask until the next keyframe", reason)
        self._newest, self._waiting = None, reason

    def _frame(self, picture: DecodedPicture) -> Frame:
        packet, motion = picture.packet, self._motion
        if motion is not None and motion.broken is not None:  # maybe at a picture of another size
            motion = MotionField.without_path(picture.picture.height, picture.picture.width, motion.broken)
        if packet.brightness_encoding:
            plane = picture.brightness()
            height, width = plane.shape
            stamp = divmod(packet.stamp_ns, _NS)
            size = (height, width, packet.brightness_encoding, 0, width)
            frame = to_frame(ImageView(*stamp, packet.frame_id, *size, memoryview(plane).cast("B")))
            return replace(frame, motion=motion)
        return Frame(picture.rgb(), packet.stamp_ns or None, "rgb8", packet.frame_id, packet.codec, motion=motion)
