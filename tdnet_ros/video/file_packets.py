"""The packets of a video file as a camera would send them: not re-encoded, parameter sets in band."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.bitstream import BitStreamFilterContext

from tdnet_ros.errors import SourceError
from tdnet_ros.video.packet_decoder import VideoPacket

#: FFmpeg's filters from the form that containers hold to Annex B, with parameter sets before each keyframe.
_TO_ANNEX_B = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}
_USUAL_RATE_HZ = 25


def file_packets(path: Path) -> Iterator[VideoPacket]:
    """Packets of the first video stream, in coding order; ``pts`` counts them.

    Stamps are the images' times since the first packet's; ``received_ns`` is when a decoder wants the packet, which is
    earlier where pictures are coded in another order. Raises SourceError when the file is no video.
    """
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError) as error:
        raise SourceError(f"{path} cannot be opened as a video: {error}") from error
    with container:
        if not container.streams.video:
            raise SourceError(f"{path} has no video stream")
        stream = container.streams.video[0]
        codec = stream.codec_context.codec.canonical_name
        rate_hz = stream.average_rate or stream.guessed_rate or _USUAL_RATE_HZ
        change = BitStreamFilterContext(_TO_ANNEX_B[codec], stream) if codec in _TO_ANNEX_B else None
        count, start_ns, due_ns = 0, 0, 0
        for packet in container.demux(stream):
            for changed in change.filter(packet) if change else [packet]:
                if not changed.size:
                    continue  # the end of the stream
                counted_ns = round(count * 1_000_000_000 / rate_hz)  # for bare bitstreams, which have no times
                coded_ns = _time_ns(changed.dts, changed.time_base, counted_ns)
                time_ns = _time_ns(changed.pts, changed.time_base, coded_ns)
                if count == 0:
                    start_ns, due_ns = time_ns, coded_ns
                yield VideoPacket(
                    time_ns - start_ns,
                    coded_ns - due_ns,
                    path.name,
                    codec,
                    bytes(changed),
                    count,
                    is_keyframe=changed.is_keyframe,
                    is_shown=not changed.is_discard,
                )
                count += 1


def _time_ns(ticks: int | None, base: Fraction | None, otherwise: int) -> int:
    return otherwise if ticks is None or base is None else int(ticks * base * 1_000_000_000)
