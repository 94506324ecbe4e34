"""Packets of a video to pictures, with the motion that the bitstream tells, and without trust in what a loss leaves."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import av
import numpy as np
import numpy.typing as npt

from tdnet_ros.errors import DecodeError
from tdnet_ros.video.block_vectors import NO_VECTORS, BlockVectors
from tdnet_ros.video.codecs import ANNEX_B, starts_group
from tdnet_ros.video.decoding import MAX_PIXELS
from tdnet_ros.video.frame import Break, MotionField
from tdnet_ros.video.h264_stream import AccessUnit, HeaderWatch

#: Packets that a decoder may hold back before their images come out: more than the standards' 16 reference frames.
_LONGEST_DELAY = 32
#: The one codec whose vectors FFmpeg's decoder hands out, of those that cameras send.
_WITH_VECTORS = "h264"
#: FFmpeg's own AV1 decoder works on hardware only.
_DECODERS = {"av1": "libdav1d"}
#: Bytes of parameter sets that are kept for the picture to come.
_LONGEST_AHEAD = 1 << 16

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoPacket:
    """One packet: when its image was taken and when it arrived, FFmpeg's name of its codec, and its bytes.

    ``pts`` counts the sender's packets one by one, None where it doesn't. H.264 comes in Annex B form.
    ``brightness_encoding`` is that of an image of one channel which the brightness plane holds as it is
    (``codecs.brightness_encoding_of``), '' where the picture is the image. ``is_keyframe`` is what a container says,
    False where nobody has said anything; ``is_shown`` False where it wants the picture decoded for later ones alone.
    """

    stamp_ns: int
    received_ns: int
    frame_id: str
    codec: str
    data: bytes
    pts: int | None = None
    brightness_encoding: str = ""
    is_keyframe: bool = False
    is_shown: bool = True


@dataclass(frozen=True)
class DecodedPicture:
    """A packet's picture.

    ``motion`` leads to the picture that came out before this one; it is None where the stream has no vectors that can
    be followed (PacketDecoder.fault says why) and the motion has to be measured, and broken after a loss in any stream.
    ``intact`` is False from a loss to the next IDR picture, or until a stream without those has refreshed all parts of
    its pictures: what the decoder shows then is partly invented.
    """

    packet: VideoPacket
    picture: av.VideoFrame
    motion: MotionField | None
    intact: bool

    def rgb(self) -> npt.NDArray[np.uint8]:
        """The pixels, uint8 (H, W, 3); converted at each call, so that pictures nobody looks at cost nothing."""
        return cast("npt.NDArray[np.uint8]", self.picture.to_ndarray(format="rgb24"))

    def brightness(self) -> npt.NDArray[np.uint8]:
        """The brightness plane as it was coded, uint8 (H, W), contiguous."""
        plane = self.picture.planes[0]
        rows = np.frombuffer(cast(Any, plane), np.uint8).reshape(-1, plane.line_size)
        return np.ascontiguousarray(rows[: self.picture.height, : self.picture.width])


@dataclass(frozen=True)
class _Waiting:
    """A packet in the decoder, and what its headers say."""

    packet: VideoPacket
    unit: AccessUnit | None


class PacketDecoder:
    """Decodes the packets of one stream in order, and every one of them, whichever pictures are used.

    A loss is found by the sender's count or by the bitstream's frame_num, as the decoder goes on after one without a
    word. A stream begins at a keyframe, or in H.264 at a recovery point, not before, and so does what a sender sends
    that has started again. ``damaged`` counts packets that gave no image though they should have, or a part of one,
    ``waited`` those before the first entry point, ``lost`` those that never came and that ``note_loss`` has not told.
    """

    def __init__(self, vectors: bool = False) -> None:
        """``vectors``: read motion from the bitstream; without it, ``motion`` of a picture is None or broken."""
        self.damaged = self.waited = self.lost = 0
        self._vectors = vectors
        self._codec = self._reported = ""
        self._context: Any = None
        self._waiting: deque[_Waiting] = deque()
        self._count = 0
        self._ahead = b""
        self._begin()

    @property
    def fault(self) -> str:
        """Why the stream's vectors cannot be followed ("3 reference frames"); '' as long as they can.

        Of this and of the last group of pictures: the first pictures of a group look innocent.
        """
        if self._codec and self._codec != _WITH_VECTORS:
            return f"{self._codec} carries no motion vectors"
        return self._fault or self._fault_before

    def decode(self, packet: VideoPacket) -> Iterator[DecodedPicture]:
        """The pictures that came out, mostly this packet's; another codec starts a new stream."""
        if packet.codec != self._codec or (self._codec != _WITH_VECTORS and self._has_started_again(packet)):
            yield from self.flush()
            self._codec = packet.codec
            self._context = cast(Any, av.CodecContext.create(_DECODERS.get(packet.codec, packet.codec), "r"))
            self._context.thread_count = 1  # one packet in, one image out
            # The size is declared by the stream: a few bytes can ask for gigabytes.
            options = {"max_pixels": str(MAX_PIXELS)}
            self._context.options = options | ({"flags2": "+export_mvs"} if self._vectors else {})
            self._begin()
        data, unit = packet.data, None
        if self._codec == _WITH_VECTORS:
            data = self._ahead + data
            try:
                unit = self._headers.read(data)
            except DecodeError:
                self.damaged += 1
                self.note_loss()
                return
            # Some senders put parameter sets into a packet of their own: they belong to the next picture.
            self._ahead = data if unit is None and len(data) < _LONGEST_AHEAD else b""
            if unit is None or not self._enter(packet, unit):
                return
        elif self._codec == "hevc" and not self._entered and not starts_group(self._codec, data):
            self.waited += 1  # its decoder would invent what it refers to
            return
        gap = self._gap(packet, unit)
        wrapped = av.Packet(data)
        wrapped.pts = self._count
        self._count += 1
        self._waiting.append(_Waiting(packet, unit))
        if gap is not None:
            self._gaps.append((wrapped.pts, gap))
        yield from self._pictures(wrapped)

    def note_loss(self) -> None:
        """Packets were left out before the next one; who calls this counts them, if they are to be counted."""
        self._missed = self._noted = True

    def flush(self) -> Iterator[DecodedPicture]:
        """What the decoder still holds back: B-frames make it wait."""
        if self._context is not None:
            yield from self._pictures(None)
        self._waiting.clear()

    def _begin(self) -> None:
        """Forget what the pictures so far have told: what comes is another stream."""
        self._headers = HeaderWatch()
        self._ahead = b""
        self._fault = self._fault_before = ""
        self._last_pts: int | None = None
        self._numbers: deque[int] = deque(maxlen=_LONGEST_DELAY)
        self._entered = self._missed = self._noted = self._reordered = False
        self._last_index: int | None = None
        self._gaps: deque[tuple[int, Break]] = deque(maxlen=_LONGEST_DELAY)
        self._last_intra = False
        self._intact = True
        self._recovers_at: int | None = None
        self._blocks: tuple[tuple[int, ...], BlockVectors] | None = None

    def _miss(self) -> None:
        self.damaged += 1
        self._missed = True

    def _enter(self, packet: VideoPacket, unit: AccessUnit) -> bool:
        """Whether an H.264 packet can be decoded: its sender's first entry point has come."""
        if self._has_started_again(packet, unit):
            self._entered, self._last_pts = False, None
            self._numbers.clear()
        if not self._entered and not unit.is_entry:
            self.waited += 1
            return False
        return True

    def _has_started_again(self, packet: VideoPacket, unit: AccessUnit | None = None) -> bool:
        """Whether the sender counts anew. B-frames make numbers late, but each comes once, and no keyframe is late."""
        step = self._step(packet)
        if step < 0:
            if unit is not None:
                may_be_late = self._headers.has_b_slices and not unit.is_entry
            else:
                may_be_late = packet.codec == "hevc" and not starts_group(packet.codec, packet.data)
            return not may_be_late or step < -_LONGEST_DELAY or packet.pts in self._numbers
        return step > 0 and packet.pts in self._numbers

    def _gap(self, packet: VideoPacket, unit: AccessUnit | None) -> Break | None:
        """Whether this packet continues the one before; notes what the headers say of the group of pictures."""
        step = self._step(packet)
        # B-frames come in another order than their senders count them in.
        self._reordered |= self._headers.has_b_slices or step < 0
        missing = 0 if self._reordered else step - 1
        lost = missing if missing > 0 or unit is None else unit.lost
        gap = Break.LOSS if lost > 0 or self._missed else None
        if not self._entered:
            gap, lost, self._entered = Break.START, 0, True
        if not self._noted:
            self.lost += max(lost, 0)
        self._missed = self._noted = False
        self._last_pts = packet.pts
        if packet.pts is not None:
            self._numbers.append(packet.pts)
        if unit is not None:
            if unit.is_entry:
                self._fault, self._fault_before = "", self._fault
            self._fault = self._fault or unit.fault
        if self._vectors and self.fault and self.fault != self._reported:
            self._reported = self.fault
            _log.warning("motion has to be measured: %s", self.fault)
        return gap

    def _step(self, packet: VideoPacket) -> int:
        """By how much the sender has counted on; 1 where it doesn't count."""
        if packet.pts is None or self._last_pts is None:
            return 1
        return packet.pts - self._last_pts

    def _pictures(self, wrapped: Any) -> Iterator[DecodedPicture]:
        try:
            pictures = self._context.decode(wrapped)
        except av.error.FFmpegError:
            if self._last_index is None and self._codec not in ANNEX_B:
                self.waited += 1  # that is how decoders of VP9 and AV1 say that they want a keyframe first
            else:
                self._miss()
            return
        oldest = self._count - len(self._waiting)
        for picture in pictures:
            position = picture.pts - oldest
            if 0 <= position < len(self._waiting):
                yield self._picture(picture, self._waiting[position])
        while len(self._waiting) > _LONGEST_DELAY:
            self._waiting.popleft()

    def _picture(self, picture: av.VideoFrame, waiting: _Waiting) -> DecodedPicture:
        unit, index, gap = waiting.unit, cast(int, picture.pts), None
        # The picture behind a gap may never come out: then the next one is the one behind it.
        while self._gaps and self._gaps[0][0] <= index:
            behind = self._gaps.popleft()[1]
            gap = gap or behind
        in_order = self._last_index is None or index == self._last_index + 1
        if unit is not None and not in_order and not self.fault:
            gap = gap or Break.LOSS  # one in between gave no picture, or they come out in another order
        self._last_index = index
        if picture.is_corrupt:  # cut off, and filled up by the decoder: it does tell that much
            self.damaged += 1
            gap = gap or Break.LOSS
        self._judge(picture, unit, gap)
        motion = self._motion(picture, unit, gap)
        self._last_intra = unit is not None and unit.is_intra
        return DecodedPicture(waiting.packet, picture, motion, self._intact)

    def _judge(self, picture: av.VideoFrame, unit: AccessUnit | None, gap: Break | None) -> None:
        """Whether nothing of the picture is invented."""
        index, recovers_after = cast(int, picture.pts), unit.recovers_after if unit is not None else None
        if gap is Break.LOSS or (gap is Break.START and recovers_after):
            self._intact, self._recovers_at = False, None
        if not self._intact and recovers_after is not None and self._recovers_at is None and not picture.is_corrupt:
            self._recovers_at = index + recovers_after
        is_key = picture.key_frame and not picture.is_corrupt and not recovers_after
        if is_key or (self._recovers_at is not None and index >= self._recovers_at):
            self._intact, self._recovers_at = True, None

    def _motion(self, picture: av.VideoFrame, unit: AccessUnit | None, gap: Break | None) -> MotionField | None:
        if gap is not None:
            return MotionField.without_path(picture.height, picture.width, gap)
        if not self._vectors or unit is None or self.fault:
            return None
        if unit.is_intra:
            # Where all pictures are I-frames, not each can be a keyframe.
            broken = MotionField.without_path(picture.height, picture.width, Break.INTRA)
            return None if self._last_intra else broken
        sizes = (picture.height, picture.width, *reversed(unit.coded_size))
        if self._blocks is None or self._blocks[0] != sizes:
            self._blocks = (sizes, BlockVectors(*sizes))
        records = cast(Any, picture.side_data).get("MOTION_VECTORS")
        try:
            return self._blocks[1].field(NO_VECTORS if records is None else records.to_ndarray())
        except DecodeError:
            return MotionField.without_path(picture.height, picture.width, Break.LOSS)
