"""Frames as a camera's stream brings them: through an encoder and back, with the motion that the bitstream tells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.training.configuration import CompressionSettings
from tdnet_ros.training.datasets import LabelledFrame
from tdnet_ros.video.encoding import FOLLOWABLE, encode_packets
from tdnet_ros.video.packet_decoder import PacketDecoder, VideoPacket


def compress_frames(
    frames: Sequence[LabelledFrame], settings: CompressionSettings, dense_gap_s: float, seed: int
) -> list[LabelledFrame]:
    """The frames in their order; those of streams decoded from H.264, each with its motion to the frame before.

    A stream are frames of one sequence at most ``dense_gap_s`` apart; each gets a quality of its own out of
    ``settings.crf``, by ``seed``. Other frames stay as they are, all do without ``crf``. Raises ConfigurationError for
    odd sizes.
    """
    if not settings.crf:
        return list(frames)
    random = np.random.default_rng(seed)
    compressed: list[LabelledFrame] = []
    for stream in _streams(frames, dense_gap_s):
        crf = int(random.integers(settings.crf[0], settings.crf[1], endpoint=True))
        compressed += _compress(stream, crf, settings.gop) if len(stream) > 1 else stream
    return compressed


def _streams(frames: Sequence[LabelledFrame], dense_gap_s: float) -> Iterator[list[LabelledFrame]]:
    stream: list[LabelledFrame] = []
    for frame in frames:
        if stream and not (
            frame.sequence == stream[-1].sequence
            and frame.image.shape == stream[-1].image.shape
            and 0 < frame.timestamp_s - stream[-1].timestamp_s <= dense_gap_s
        ):
            yield stream
            stream = []
        stream.append(frame)
    if stream:
        yield stream


def _compress(stream: list[LabelledFrame], crf: int, gop: int) -> list[LabelledFrame]:
    options = {**FOLLOWABLE, "crf": str(crf), "sc_threshold": "0"}
    decoder = PacketDecoder(vectors=True)
    packets = encode_packets((frame.image for frame in stream), gop=gop, options=options)
    decoded = [
        picture
        for number, data in enumerate(packets)
        for picture in decoder.decode(VideoPacket(number, number, "", "h264", data, number))
    ]
    if len(decoded) != len(stream):
        raise ConfigurationError(
            f"data.compression.crf gave {len(decoded)} of {len(stream)} frames of '{stream[0].sequence}' back, "
            "expected all: the installed FFmpeg cannot be used for this"
        )
    return [
        replace(frame, image=picture.rgb(), motion=picture.motion)
        for frame, picture in zip(stream, decoded, strict=True)
    ]
