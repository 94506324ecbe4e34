"""Video packets in ROS messages: the three message types, both generations of encodings, real H.264 bitstreams."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from video_packets import packet_message

from tdnet_ros.errors import DecodeError, SourceError
from tdnet_ros.evaluation.bags import BagWriter
from tdnet_ros.evaluation.bags import typestore as bag_types
from tdnet_ros.video.codecs import brightness_encoding_of, codec_of
from tdnet_ros.video.messages.packets import read_packet
from tdnet_ros.video.messages.types import COMPRESSED_TYPE, FFMPEG_TYPE, FOXGLOVE_TYPE, typestore
from tdnet_ros.video.source_frames import frame_of
from tdnet_ros.video.sources import open_source

WIDTH, HEIGHT, RATE_HZ, GOP = 64, 48, 10, 4


def encode(count: int, b_frames: int = 0, codec: str = "libx264") -> list[bytes]:
    """Annex B packets of a grey video whose brightness is 20 + 15 * number, in coding order."""
    context = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    context.time_base, context.framerate, context.gop_size = Fraction(1, RATE_HZ), Fraction(RATE_HZ), GOP
    context.options = {"bf": str(b_frames), "preset": "veryfast", "crf": "10"}
    context.max_b_frames = b_frames
    packets = []
    for number in range(count):
        picture = np.full((HEIGHT, WIDTH, 3), 20 + 15 * number, np.uint8)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts = number
        packets += context.encode(frame)
    return [bytes(packet) for packet in [*packets, *context.encode(None)]]


def write(path: Path, type_name: str, packets: list[bytes], encoding: str = "h264") -> Path:
    for name in (FFMPEG_TYPE, FOXGLOVE_TYPE):
        if name not in bag_types().types:
            bag_types().register({name: typestore().fielddefs[name]})
    with BagWriter(path) as bag:
        bag.add_topic("/camera/image/video", type_name)
        for index, data in enumerate(packets):
            stamp_ns = (100 + index) * 10**9 // RATE_HZ
            bag.write("/camera/image/video", stamp_ns + 7, packet_message(type_name, data, stamp_ns, encoding))
    return path


def brightness(path: Path) -> list[tuple[int, float]]:
    """(stamp_ns, mean of the picture) of every image of a bag."""
    return [(image.stamp_ns, float(frame_of(image).image.mean())) for image in open_source(path)]


@pytest.mark.parametrize("type_name", [FFMPEG_TYPE, FOXGLOVE_TYPE, COMPRESSED_TYPE])
def test_every_packet_of_a_topic_becomes_the_image_of_its_stamp(tmp_path: Path, type_name: str) -> None:
    path = write(tmp_path / "bag", type_name, encode(10))
    source = open_source(path)
    assert (source.size, source.rate_hz, source.frame_count) == ((WIDTH, HEIGHT), RATE_HZ, 10)
    found = brightness(path)
    assert [stamp for stamp, _ in found] == [(100 + index) * 10**9 // RATE_HZ for index in range(10)]
    for number, (_, mean) in enumerate(found):
        assert abs(mean - (20 + 15 * number)) < 4


def test_joining_between_keyframes_waits_for_the_next_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "bag", FFMPEG_TYPE, encode(10)[2:])
    with caplog.at_level(logging.WARNING):
        found = brightness(path)
    assert [round((mean - 20) / 15) for _, mean in found] == list(range(GOP, 10))
    assert found[0][0] == (100 + GOP - 2) * 10**9 // RATE_HZ, "the stamp is that of the image's own packet"
    assert "packets gave no image" in caplog.text


def test_a_damaged_packet_costs_no_more_than_its_group(tmp_path: Path) -> None:
    packets = encode(9)
    packets[GOP] = b"\x00\x00\x01\x65" + b"\xff" * 40
    found = dict(brightness(write(tmp_path / "bag", FOXGLOVE_TYPE, packets)))
    for number in (*range(GOP), 2 * GOP):
        assert abs(found[(100 + number) * 10**9 // RATE_HZ] - (20 + 15 * number)) < 4


def test_another_codec_is_decoded_by_its_own_decoder(tmp_path: Path) -> None:
    path = write(tmp_path / "bag", FFMPEG_TYPE, encode(4, codec="libx265"), "hevc;yuv420p;bgr8;bgr8")
    assert [round((mean - 20) / 15) for _, mean in brightness(path)] == [0, 1, 2, 3]


def test_a_topic_without_a_keyframe_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "bag", FFMPEG_TYPE, encode(3)[1:])
    with pytest.raises(SourceError, match="holds no packet that can be decoded"):
        open_source(path)


@pytest.mark.parametrize(
    ("encoding", "codec"),
    [
        ("libx264", "h264"),
        ("h264_nvenc", "h264"),
        ("h264;yuv420p;bgr8;bgr8", "h264"),
        ("hevc_nvenc", "hevc"),
        ("h265", "hevc"),
        ("vp9", "vp9"),
        ("av1", "av1"),
        ("rgb8; jpeg compressed bgr8", None),
        ("jpeg", None),
        ("", None),
    ],
)
def test_codecs_by_their_many_names(encoding: str, codec: str | None) -> None:
    assert codec_of(encoding) == codec


@pytest.mark.parametrize(
    ("encoding", "plane"),
    [
        ("h264;yuv420p;mono8;mono8", "mono8"),
        ("h264;nv12;mono8;bayer_rggb8", "bayer_rggb8"),
        ("h264;yuv420p;bayer_grbg8", "bayer_grbg8"),
        ("h264;yuv420p;bgr8;bayer_rggb8", ""),
        ("h264;yuv420p;bgr8;bgr8", ""),
        ("libx264", ""),
    ],
)
def test_images_of_one_channel_in_the_brightness_plane_are_recognised(encoding: str, plane: str) -> None:
    assert brightness_encoding_of(encoding) == plane


def test_a_message_without_a_video_is_refused() -> None:
    with pytest.raises(DecodeError, match="has encoding 'jpeg', expected one of"):
        read_packet(packet_message(FFMPEG_TYPE, b"x", encoding="jpeg"), FFMPEG_TYPE)
    with pytest.raises(DecodeError, match="is damaged"):
        read_packet(packet_message(FFMPEG_TYPE, b"x")[:20], FFMPEG_TYPE)
